//! Whether a request's time is one that we believe.

use crate::node::protocol::WINDOW;

/// Refuses what is from another time: replayed, or from a node whose clock is wrong. Seconds since 1970.
pub(super) fn within(time: u64, now: u64) -> Result<(), String> {
    let (apart, how) = if time > now {
        (time - now, "ahead of")
    } else {
        (now - time, "behind")
    };
    if apart <= WINDOW {
        return Ok(());
    }
    Err(format!(
        "the node's clock is {apart} s {how} the site's; set one of them right"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_named() {
        assert_eq!(within(1_000, 1_000 + WINDOW), Ok(()));
        assert_eq!(within(1_000 + WINDOW, 1_000), Ok(()));
        let ahead = within(1_061, 1_000).unwrap_err();
        assert!(
            ahead.starts_with("the node's clock is 61 s ahead of"),
            "{ahead}"
        );
        let behind = within(0, 1_000).unwrap_err();
        assert!(behind.contains("1000 s behind"), "{behind}");
    }
}
