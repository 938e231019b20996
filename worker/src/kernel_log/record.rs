//! What Landlock says in the kernel's audit log, as text. Pure.
//! (Documentation/admin-guide/LSM/landlock.rst, "Audit"; the values that a job can choose are quoted, or in hexadecimal digits.)

/// The kernel's numbers of the two records of Landlock's (linux/audit.h).
pub(super) const DENIED: u16 = 1423;
pub(super) const DOMAIN: u16 = 1424;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Something was refused.
    Denied {
        domain: u64,
        /// The rights that were missing, like `fs.read_dir`.
        what: String,
        /// Where; empty for what has no path.
        path: String,
    },
    /// A domain is spoken of for the first time.
    Allocated {
        domain: u64,
        /// The user that restricted itself.
        uid: u32,
    },
    /// The last process of a domain is gone.
    Deallocated {
        domain: u64,
        /// How much it was refused in all.
        denials: u64,
    },
}

impl Record {
    /// The record of a message, if it is one of Landlock's.
    pub(super) fn parse(kind: u16, text: &str) -> Option<Self> {
        let fields = text.strip_prefix("audit(")?.split_once("): ")?.1;
        let domain = u64::from_str_radix(plain(fields, "domain")?, 16).ok()?;
        match (kind, plain(fields, "status")) {
            (DENIED, None) => Some(Self::Denied {
                domain,
                what: plain(fields, "blockers")?.to_owned(),
                path: path(fields),
            }),
            (DOMAIN, Some("allocated")) => Some(Self::Allocated {
                domain,
                uid: plain(fields, "uid")?.parse().ok()?,
            }),
            (DOMAIN, Some("deallocated")) => Some(Self::Deallocated {
                domain,
                denials: plain(fields, "denials")?.parse().ok()?,
            }),
            _ => None,
        }
    }
}

/// A field that the kernel chose. It comes before what a job chose, and the first of its name counts.
fn plain<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let ours = fields.split('"').next()?;
    let mut words = ours.split(' ');
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The path: in quotes, or in digits if it has what must not stand between quotes.
fn path(fields: &str) -> String {
    let Some((_, value)) = fields.split_once(" path=") else {
        return String::new();
    };
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
        None => {
            let digits = value.split(' ').next().unwrap_or_default();
            let bytes: Option<Vec<u8>> = digits
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect();
            bytes.map_or_else(String::new, |bytes| {
                String::from_utf8_lossy(&bytes).into_owned()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_said_is_understood() {
        let denied = |what: &str, path: &str| {
            Some(Record::Denied {
                domain: 0x1_3030_b2cf,
                what: what.to_owned(),
                path: path.to_owned(),
            })
        };
        // As Linux 6.18 wrote them.
        for (kind, text, record) in [
            (
                1423,
                r#"audit(1795486733.905:72): domain=13030b2cf blockers=fs.read_dir path="/" dev="tmpfs" ino=1"#,
                denied("fs.read_dir", "/"),
            ),
            (
                1423,
                r#"audit(1795486733.905:72): domain=13030b2cf blockers=fs.execute path=2F746D702F612062 dev="tmpfs" ino=7"#,
                denied("fs.execute", "/tmp/a b"),
            ),
            (
                1423,
                "audit(1795486733.905:73): domain=13030b2cf blockers=net.connect_tcp daddr=127.0.0.1 dest=80",
                denied("net.connect_tcp", ""),
            ),
            (
                1424,
                r#"audit(1795486733.905:72): domain=13030b2cf status=allocated mode=enforcing pid=15918 uid=1520001000 exe="/usr/bin/safelight" comm="safelight""#,
                Some(Record::Allocated {
                    domain: 0x1_3030_b2cf,
                    uid: 1_520_001_000,
                }),
            ),
            (
                1424,
                "audit(1795486734.049:73): domain=13030b2cf status=deallocated denials=1",
                Some(Record::Deallocated {
                    domain: 0x1_3030_b2cf,
                    denials: 1,
                }),
            ),
            (1320, "audit(1795486734.049:73): ", None),
            (1423, "audit(1): domain=xyz blockers=fs.execute", None),
            (1424, "domain=1 status=deallocated denials=1", None),
        ] {
            assert_eq!(Record::parse(kind, text), record, "{text}");
        }
    }

    #[test]
    fn a_name_that_a_job_chose_is_no_field() {
        let text = r#"audit(1.0:1): domain=1 blockers=fs.execute path="/tmp/x uid=0 status=allocated" dev="tmpfs" ino=1"#;
        let Some(Record::Denied { path, .. }) = Record::parse(DENIED, text) else {
            panic!("it is a refusal");
        };
        assert_eq!(path, "/tmp/x uid=0 status=allocated");
        assert_eq!(Record::parse(DOMAIN, text), None);
    }
}
