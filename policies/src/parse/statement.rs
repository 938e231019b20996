//! The statements of a policy file, one kind after the other: from the shape they are written in to a checked value.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_spanned::Spanned;

use super::Reader;
use crate::{
    amount,
    error::Error,
    glob::Glob,
    grant::{Feature, Requirement},
    layer::{Bind, Limit, Tmp},
    never::why_never,
    origin::{At, Entry},
    place, reach,
    text::{
        CallsText, EnvText, FeaturesText, GlobText, LimitsText, NameText, ReachText, RootText,
        TmpText,
    },
};

/// The least Landlock ABI that a policy may ask for: before it, renaming across directories cannot be allowed at all.
const LANDLOCK_FLOOR: u32 = 2;

/// The longest value of a variable in bytes.
const VALUE_MAX: usize = 4096;

impl Reader<'_> {
    pub(super) fn root(&self, item: &RootText) -> Result<(String, Entry<Bind>), Error> {
        self.check("path", &item.at, place::check_root(item.at.get_ref()))?;
        let bind = Bind {
            rights: item.rights,
            missing: item.missing,
        };
        Ok((
            item.at.get_ref().clone(),
            self.entry(&item.at, &item.reason, bind)?,
        ))
    }

    pub(super) fn tmp(&self, item: &TmpText) -> Result<(String, Entry<Tmp>), Error> {
        self.check(
            "tmp directory",
            &item.at,
            place::check_tmp(item.at.get_ref()),
        )?;
        let bytes = self.check("size", &item.size, amount::bytes(item.size.get_ref()))?;
        let inodes = *item.inodes.get_ref();
        // The kernel takes a size or a number of files of zero for "no limit".
        if bytes == 0 {
            return Err(self.invalid("size", &item.size, item.size.get_ref(), "it is zero"));
        }
        if inodes == 0 {
            return Err(self.invalid("number of files", &item.inodes, &inodes, "it is zero"));
        }
        let tmp = Tmp {
            bytes,
            inodes,
            exec: item.exec,
        };
        Ok((
            item.at.get_ref().clone(),
            self.entry(&item.at, &item.reason, tmp)?,
        ))
    }

    pub(super) fn device(&self, item: &NameText) -> Result<(String, Entry<()>), Error> {
        let name = item.name.get_ref();
        if !place::DEVICES.contains(&name.as_str()) {
            let known = place::DEVICES.join(", ");
            return Err(self.invalid(
                "device",
                &item.name,
                name,
                format!("a session may have {known}"),
            ));
        }
        Ok((name.clone(), self.entry(&item.name, &item.reason, ())?))
    }

    pub(super) fn reach(&self, item: &ReachText) -> Result<(String, Entry<SocketAddr>), Error> {
        let address = self.check("address", &item.tcp, reach::parse(item.tcp.get_ref()))?;
        Ok((
            address.to_string(),
            self.entry(&item.tcp, &item.reason, address)?,
        ))
    }

    pub(super) fn env(&self, item: &EnvText) -> Result<(String, Entry<String>), Error> {
        let name = self.check("variable", &item.name, check_variable(item.name.get_ref()))?;
        let value = item.value.get_ref();
        if value.contains('\0') || value.len() > VALUE_MAX {
            return Err(self.invalid(
                "value",
                &item.value,
                value,
                "it has a NUL or is longer than 4,096 bytes",
            ));
        }
        Ok((name, self.entry(&item.name, &item.reason, value.clone())?))
    }

    pub(super) fn env_pass(&self, item: &NameText) -> Result<(String, Entry<()>), Error> {
        let name = self.check("variable", &item.name, check_variable(item.name.get_ref()))?;
        Ok((name, self.entry(&item.name, &item.reason, ())?))
    }

    pub(super) fn calls(
        &self,
        groups: &[CallsText],
        allowing: bool,
    ) -> Result<BTreeMap<String, Entry<()>>, Error> {
        let mut map = BTreeMap::new();
        for group in groups {
            for call in &group.calls {
                let name = self.check("system call", call, check_call(call.get_ref()))?;
                if let (true, Some(why)) = (allowing, why_never(&name)) {
                    return Err(Error::NeverAllowed {
                        origin: self.origin(call),
                        call: name,
                        why,
                    });
                }
                insert(
                    &mut map,
                    "system call",
                    name,
                    self.entry(call, &group.reason, ())?,
                )?;
            }
        }
        Ok(map)
    }

    pub(super) fn limits(&self, raw: &LimitsText) -> Result<BTreeMap<Limit, At<u64>>, Error> {
        let mut map = BTreeMap::new();
        for (limit, text, read) in [
            (Limit::Memory, &raw.memory, amount::bytes as fn(&str) -> _),
            (Limit::Wall, &raw.wall, amount::seconds),
            (Limit::TermGrace, &raw.term_grace, amount::seconds),
            (Limit::Output, &raw.output, amount::bytes),
            (Limit::Quota, &raw.quota, amount::bytes),
            (Limit::Records, &raw.records, amount::bytes),
            (Limit::Io, &raw.io, amount::bytes),
        ] {
            if let Some(text) = text {
                let (key, ..) = limit.shape();
                let amount = self.check(key, text, read(text.get_ref()))?;
                map.insert(limit, self.limit(limit, text, amount, text.get_ref())?);
            }
        }
        for (limit, number) in [
            (Limit::Pids, &raw.pids),
            (Limit::Files, &raw.files),
            (Limit::Entries, &raw.entries),
        ] {
            if let Some(number) = number {
                let amount = *number.get_ref();
                map.insert(limit, self.limit(limit, number, amount, &amount)?);
            }
        }
        Ok(map)
    }

    fn limit<T, V: ToString>(
        &self,
        limit: Limit,
        spanned: &Spanned<T>,
        amount: u64,
        written: &V,
    ) -> Result<At<u64>, Error> {
        let (key, least, most) = limit.shape();
        if (least..=most).contains(&amount) {
            return Ok(self.at(spanned, amount));
        }
        let show = |amount| match limit {
            Limit::Wall | Limit::TermGrace => amount::show_seconds(amount),
            Limit::Pids | Limit::Files | Limit::Entries => format!("{amount}"),
            Limit::Memory | Limit::Output | Limit::Quota | Limit::Records | Limit::Io => {
                amount::show_bytes(amount)
            }
        };
        let range = format!("it must be from {} to {}", show(least), show(most));
        Err(self.invalid(key, spanned, written, range))
    }

    pub(super) fn features(&self, raw: &FeaturesText) -> BTreeMap<Feature, At<Requirement>> {
        [
            (Feature::Landlock, &raw.landlock),
            (Feature::Seccomp, &raw.seccomp),
            (Feature::UserNamespace, &raw.user_namespace),
            (Feature::Namespaces, &raw.namespaces),
            (Feature::NetworkNamespace, &raw.network_namespace),
            (Feature::Fuse, &raw.fuse),
            (Feature::CgroupKill, &raw.cgroup_kill),
            (Feature::CgroupLimits, &raw.cgroup_limits),
        ]
        .into_iter()
        .filter_map(|(feature, wanted)| {
            let wanted = wanted.as_ref()?;
            Some((feature, self.at(wanted, *wanted.get_ref())))
        })
        .collect()
    }

    pub(super) fn landlock_min_abi(&self, raw: &FeaturesText) -> Result<Option<At<u32>>, Error> {
        let Some(abi) = &raw.landlock_min_abi else {
            return Ok(None);
        };
        let value = *abi.get_ref();
        if value < LANDLOCK_FLOOR {
            let floor = format!("it must be at least {LANDLOCK_FLOOR}");
            return Err(self.invalid("landlock-min-abi", abi, &value, floor));
        }
        Ok(Some(self.at(abi, value)))
    }

    pub(super) fn glob(&self, item: &GlobText) -> Result<(String, Entry<()>), Error> {
        self.check("glob", &item.glob, Glob::new(item.glob.get_ref()))?;
        Ok((
            item.glob.get_ref().clone(),
            self.entry(&item.glob, &item.reason, ())?,
        ))
    }
}

pub(super) fn insert<T>(
    map: &mut BTreeMap<String, Entry<T>>,
    what: &'static str,
    key: String,
    entry: Entry<T>,
) -> Result<(), Error> {
    if let Some(first) = map.get(&key) {
        return Err(Error::Duplicate {
            origin: entry.origin,
            first: first.origin.clone(),
            what,
            value: key,
        });
    }
    map.insert(key, entry);
    Ok(())
}

/// Checks the name of an environment variable (POSIX: letters, digits, underscores, no digit first).
pub(crate) fn check_variable(name: &str) -> Result<String, &'static str> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if fits {
        Ok(name.to_owned())
    } else {
        Err("expected up to 128 letters, digits and underscores, no digit first")
    }
}

fn check_call(name: &str) -> Result<String, &'static str> {
    let fits = (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if fits {
        Ok(name.to_owned())
    } else {
        Err("expected a name of lower-case letters, digits and underscores")
    }
}
