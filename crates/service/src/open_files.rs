use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises how many files this process may have open to the most that it is allowed, and says how many that is.
#[must_use]
pub fn raise_open_files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let allowed = if raised.is_ok() { maximum } else { current };
    allowed.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_all_that_it_may() {
        let allowed = raise_open_files();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(
            maximum.map_or(usize::MAX, |files| usize::try_from(files).unwrap()),
            allowed
        );
    }
}
