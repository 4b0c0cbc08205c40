//! Padmé: padding that hides most of a length (PURBs, Nikitin et al. 2019, section 4).

/// Returns the padded size of `length` bytes: at most 12 % more, with `O(log log length)`
/// significant bits.
///
/// Saturates at `u64::MAX`.
#[must_use]
pub const fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1 << (exponent - kept_bits)) - 1;
    match length.checked_add(mask) {
        Some(raised) => raised & !mask,
        None => u64::MAX,
    }
}
