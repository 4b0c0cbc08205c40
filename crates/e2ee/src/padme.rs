//! Padmé: lengths rounded up so that little of them shows (PURBs, Nikitin et al. 2019, section 4).

/// The length to which `length` bytes are padded: at most 12 % more, and of `O(log log length)` bits.
///
/// A length that Padmé cannot raise without leaving `u64` stays at `u64::MAX`.
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
