use getrandom::SysRng;
use rand_core::{Rng as _, UnwrapErr};

/// Random source of the operating system. It panics if the system has none, from which no caller
/// could recover.
pub type Entropy = UnwrapErr<SysRng>;

/// Returns the random source of the operating system, to be passed down as an argument.
#[must_use]
pub fn entropy() -> Entropy {
    UnwrapErr(SysRng)
}

/// Generates `N` random bytes.
#[must_use]
pub fn random_array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    entropy().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_arrays_differ() {
        assert_ne!(random_array::<32>(), random_array::<32>());
    }
}
