use getrandom::SysRng;
use rand_core::{Rng as _, UnwrapErr};

/// The operating system's random source. It panics when the system has none, which no caller could survive.
pub type Entropy = UnwrapErr<SysRng>;

/// The operating system's random source, to be passed down as an argument.
#[must_use]
pub fn entropy() -> Entropy {
    UnwrapErr(SysRng)
}

/// `N` random bytes.
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
    fn two_draws_differ() {
        assert_ne!(random_array::<32>(), random_array::<32>());
    }
}
