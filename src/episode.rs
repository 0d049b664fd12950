//! One log line per episode of something wrong, however many frames or samples it lasts.

/// Whether something that can go on failing is failing now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Episode {
    failures: u64,
}

impl Episode {
    /// Notes a failure; true for the first of an episode: the one to log.
    pub fn fails(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// Notes a success; the number of failures of the episode that it ends, if it ends one.
    pub fn recovers(&mut self) -> Option<u64> {
        match std::mem::take(&mut self.failures) {
            0 => None,
            failures => Some(failures),
        }
    }

    /// Failures of the episode so far, 0 while all is well.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_failure_and_the_first_success_are_told() {
        let mut episode = Episode::default();
        assert_eq!(episode.recovers(), None);
        assert!(episode.fails() && !episode.fails() && !episode.fails());
        assert_eq!((episode.failures(), episode.recovers(), episode.recovers()), (3, Some(3), None));
        assert!(episode.fails());
    }
}
