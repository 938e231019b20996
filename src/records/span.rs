//! A time from, and a time up to. Pure.

/// Some time; all of it by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// From this on, in nanoseconds since 1970.
    pub(crate) since: Option<u64>,
    /// Before this.
    pub(crate) until: Option<u64>,
}

impl Span {
    /// True if this moment is in it.
    pub(crate) fn holds(self, at_ns: u64) -> bool {
        self.since.is_none_or(|since| at_ns >= since)
            && self.until.is_none_or(|until| at_ns < until)
    }

    /// True if any moment between these two is in it.
    pub(super) fn meets(self, (first, last): (u64, u64)) -> bool {
        self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first < until)
    }

    /// True if every moment between these two is in it.
    pub(super) fn covers(self, (first, last): (u64, u64)) -> bool {
        self.holds(first) && self.holds(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_beginning_and_not_its_end() {
        let all = Span::default();
        assert!(all.holds(0) && all.covers((0, u64::MAX)) && all.meets((0, 0)));
        let span = Span {
            since: Some(10),
            until: Some(20),
        };
        assert!(
            [(9, false), (10, true), (19, true), (20, false)]
                .iter()
                .all(|(at, held)| span.holds(*at) == *held)
        );
        assert!(span.meets((0, 10)) && span.meets((19, 30)) && span.meets((0, 30)));
        assert!(!span.meets((0, 9)) && !span.meets((20, 30)));
        assert!(span.covers((10, 19)) && !span.covers((9, 19)) && !span.covers((10, 20)));
    }
}
