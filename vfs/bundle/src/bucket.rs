//! A hot folder that is a part of a bucket: an object store that speaks S3's protocol.
//!
//! Its keys are the names that a [`crate::Directory`] has below its own, after the prefix. An object appears whole or not at all, so nothing is
//! written under a hidden name; nothing can be renamed, so what is set aside is copied by the store, then removed. No blob is longer than one
//! request may bring, so what is interrupted goes on with the next blob; what is read goes on where it broke off.
//!
//! The store may show late what is there, and say that something is there which is not: what counts are hashes and signatures, as with any
//! medium. A key that is no name of ours is passed over.

mod aside;
mod flights;
mod reader;
mod wire;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusty_s3::{Credentials, UrlStyle};
use safelight_policies::id::{ObjectId, VerifyKey};

use crate::{
    BLOB_MAX, Blob, Entry, EntryName, MARKER, Medium, MediumError, ReadyName, Reason, What,
    medium::MARKED, name::mailbox,
};
use flights::Flights;
use reader::Resuming;
use wire::{Fault, Wire};

/// The most pages of a listing that are looked at: a thousand keys each.
const PAGES_MAX: usize = 1_001;
/// From so many on, blobs are looked for by a listing.
const LIST_MIN: usize = 16;

/// Where an object store is, and who we are there.
pub struct Store {
    /// The store's address: `https://`, or `http://` where that is allowed.
    pub endpoint: String,
    /// The region that signatures name.
    pub region: String,
    /// That it may be spoken to without TLS, though it is on another machine.
    pub http: bool,
    /// The name of our key there.
    pub key: String,
    /// The key. It is wiped.
    pub secret: zeroize::Zeroizing<String>,
}

/// Why a store's address is none that is used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// No URL of a host.
    #[error("{endpoint} is not the address of an object store, like https://s3.example.com")]
    Address {
        /// What it says.
        endpoint: String,
    },
    /// Without TLS, to another machine.
    #[error(
        "{endpoint} is on another machine and has no TLS: who watches sees when and how much, and could take the key's place"
    )]
    Clear {
        /// What it says.
        endpoint: String,
    },
}

/// A part of a bucket that carries letters and blobs.
pub struct Bucket {
    place: PathBuf,
    prefix: String,
    wire: Arc<Wire>,
    flights: Flights,
    /// The marker was seen once.
    marked: AtomicBool,
}

impl Bucket {
    /// The hot folder at a prefix of a bucket. Nothing is connected yet.
    pub fn at(bucket: &str, prefix: &str, store: Store) -> Result<Self, StoreError> {
        let endpoint = store.endpoint;
        let wrong = |endpoint| StoreError::Address { endpoint };
        let Ok(url) = endpoint.parse::<url::Url>() else {
            return Err(wrong(endpoint));
        };
        let here = match url.host() {
            Some(url::Host::Ipv4(host)) => host.is_loopback(),
            Some(url::Host::Ipv6(host)) => host.is_loopback(),
            Some(url::Host::Domain(_)) => false,
            None => return Err(wrong(endpoint)),
        };
        match url.scheme() {
            "https" => {}
            "http" if here || store.http => {}
            "http" => return Err(StoreError::Clear { endpoint }),
            _ => return Err(wrong(endpoint)),
        }
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(endpoint));
        }
        let named = rusty_s3::Bucket::new(url, UrlStyle::Path, bucket.to_owned(), store.region);
        let named = named.map_err(|_| wrong(endpoint))?;
        let credentials = Credentials::new(store.key, store.secret.as_str());
        let (place, prefix) = match prefix {
            "" => (format!("s3://{bucket}"), String::new()),
            prefix => (format!("s3://{bucket}/{prefix}"), format!("{prefix}/")),
        };
        Ok(Self {
            place: place.into(),
            prefix,
            wire: Arc::new(Wire::new(named, credentials)),
            flights: Flights::default(),
            marked: AtomicBool::new(false),
        })
    }

    /// Makes the part of the bucket, which must be there, a hot folder.
    pub fn create(&self) -> Result<(), MediumError> {
        let made = self.wire.put(&self.key(MARKER), MARKED, true);
        made.map(drop).map_err(self.fault("write", MARKER))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A prefix that nobody meant has no marker. It is looked for until it was seen.
    fn check(&self) -> Result<(), MediumError> {
        if self.marked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = self.wire.len(&self.key(MARKER));
        match found.map_err(self.fault("look at", MARKER))? {
            Some(_) => self.marked.store(true, Ordering::Relaxed),
            None => {
                return Err(MediumError::NotAHotFolder {
                    folder: self.place.clone(),
                    marker: MARKER,
                });
            }
        }
        Ok(())
    }

    /// Says what a fault means for whoever runs the site.
    fn fault(&self, act: &'static str, name: &str) -> impl FnOnce(Fault) -> MediumError + use<> {
        let (folder, path) = (self.place.clone(), PathBuf::from(name));
        move |fault| match fault {
            Fault::Unreachable(source) => MediumError::Gone { folder, source },
            Fault::NoBucket => MediumError::Gone {
                folder,
                source: io::Error::other(fault),
            },
            Fault::Full => MediumError::Full {
                folder,
                needed: 1,
                free: 0,
            },
            Fault::Denied(_) => MediumError::Denied {
                folder,
                path,
                source: io::Error::other(fault),
            },
            Fault::Status(_) | Fault::Unclear => MediumError::Io {
                folder,
                act,
                path,
                source: io::Error::other(fault),
            },
        }
    }

    /// Shows the names below a folder of ours, and the lengths of what has them.
    fn list(
        &self,
        folder: &str,
        visit: &mut dyn FnMut(&str, u64) -> ControlFlow<()>,
    ) -> Result<(), MediumError> {
        let prefix = self.key(folder);
        let mut from: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = self.wire.list(&prefix, from.as_deref());
            let page = page.map_err(self.fault("list", folder))?;
            for (key, len) in &page.keys {
                let name = key.strip_prefix(&prefix);
                if name.is_some_and(|name| visit(name, *len).is_break()) {
                    return Ok(());
                }
            }
            match page.next {
                // One that begins where it began goes nowhere.
                Some(next) if from.as_ref() != Some(&next) => from = Some(next),
                _ => break,
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), MediumError> {
        let removed = self.wire.remove(&self.key(name));
        removed.map_err(self.fault("remove", name))
    }

    /// Reads a small object, if it is there.
    fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, MediumError> {
        let got = self.wire.get(&self.key(name), 0);
        let Some((len, body)) = got.map_err(self.fault("open", name))? else {
            return Ok(None);
        };
        self.bounded(name, len, max)?;
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let read = body.into_reader().take(max).read_to_end(&mut bytes);
        read.map_err(|error| self.fault("read", name)(Fault::Unreachable(error)))?;
        Ok(Some(bytes))
    }

    fn bounded(&self, name: &str, len: u64, max: u64) -> Result<(), MediumError> {
        match len > max {
            false => Ok(()),
            true => Err(MediumError::TooLong {
                folder: self.place.clone(),
                path: name.into(),
                len,
                max,
            }),
        }
    }
}

impl Medium for Bucket {
    fn put_blob(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> Result<(), MediumError> {
        self.check()?;
        let name = blob(id);
        self.bounded(&name, len, BLOB_MAX)?;
        // All of it before any of it goes: what does not verify is put under no name.
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        source.read_to_end(&mut bytes).map_err(|source| {
            let (folder, path) = (self.place.clone(), PathBuf::from(&name));
            let act = "read";
            MediumError::Io {
                folder,
                act,
                path,
                source,
            }
        })?;
        let put = self.flights.put(&self.wire, self.key(&name), bytes);
        put.map_err(|(key, fault)| self.fault("write", &key)(fault))
    }

    fn settle(&self) -> Result<(), MediumError> {
        let landed = self.flights.land();
        landed.map_err(|(key, fault)| self.fault("write", &key)(fault))
    }

    fn blob_len(&self, id: ObjectId) -> Result<Option<u64>, MediumError> {
        let name = blob(id);
        let len = self.wire.len(&self.key(&name));
        len.map_err(self.fault("look at", &name))
    }

    /// One listing for many: each question would be a way there and back.
    fn blob_lens(&self, ids: &[ObjectId]) -> Result<BTreeMap<ObjectId, u64>, MediumError> {
        let mut found = BTreeMap::new();
        if ids.len() < LIST_MIN {
            for id in ids {
                found.extend(self.blob_len(*id)?.map(|len| (*id, len)));
            }
            return Ok(found);
        }
        self.check()?;
        let wanted: std::collections::BTreeSet<_> = ids.iter().copied().collect();
        self.list("blobs/", &mut |name, len| {
            let id = name.split_once('/').and_then(|(_, name)| name.parse().ok());
            let id = id.filter(|id| wanted.contains(id) && format!("blobs/{name}") == blob(*id));
            found.extend(id.map(|id| (id, len)));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn is_far(&self) -> bool {
        true
    }

    fn open_blob(&self, id: ObjectId) -> Result<Option<Blob<'_>>, MediumError> {
        let name = blob(id);
        let got = self.wire.get(&self.key(&name), 0);
        let Some((len, body)) = got.map_err(self.fault("open", &name))? else {
            return Ok(None);
        };
        self.bounded(&name, len, BLOB_MAX)?;
        let source = Resuming::new(&self.wire, self.key(&name), len, body);
        Ok(Some(Blob {
            len,
            source: Box::new(source),
        }))
    }

    fn remove_blob(&self, id: ObjectId) -> Result<(), MediumError> {
        self.remove(&blob(id))
    }

    /// Nobody says how much a store takes; it says so itself when it takes no more.
    fn room(&self) -> Result<u64, MediumError> {
        self.check().map(|()| u64::MAX)
    }

    fn place(&self) -> PathBuf {
        self.place.clone()
    }

    fn put_ready(&self, name: &ReadyName, bytes: &[u8]) -> Result<(), MediumError> {
        self.check()?;
        let Some(name) = letter(&name.to, &name.entry()) else {
            return Ok(());
        };
        let put = self.wire.put(&self.key(&name), bytes, false);
        put.map(drop).map_err(self.fault("write", &name))
    }

    fn list_ready(
        &self,
        to: &VerifyKey,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), MediumError> {
        self.check()?;
        self.list(
            &format!("ready/{}/", mailbox(to)),
            &mut |name, _| match EntryName::new(name) {
                Some(name) => visit(Entry {
                    name,
                    what: What::File,
                }),
                None => ControlFlow::Continue(()),
            },
        )
    }

    fn read_ready(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        max: u64,
    ) -> Result<Option<Vec<u8>>, MediumError> {
        match letter(to, name) {
            Some(name) => self.read(&name, max),
            None => Ok(None),
        }
    }

    fn remove_ready(&self, to: &VerifyKey, name: &EntryName) -> Result<(), MediumError> {
        match letter(to, name) {
            Some(name) => self.remove(&name),
            None => Ok(()),
        }
    }

    fn set_aside(
        &self,
        to: &VerifyKey,
        name: &EntryName,
        reason: &Reason,
    ) -> Result<(), MediumError> {
        aside::set_aside(self, to, name, reason)
    }

    fn aside(&self, to: &VerifyKey) -> Result<Vec<crate::Aside>, MediumError> {
        aside::list(self, to)
    }

    fn put_back(&self, to: &VerifyKey, aside: &crate::Aside) -> Result<bool, MediumError> {
        aside::put_back(self, to, aside)
    }

    fn discard(&self, to: &VerifyKey, stem: &str) -> Result<bool, MediumError> {
        aside::discard(self, to, stem)
    }
}

fn blob(id: ObjectId) -> String {
    let name = id.to_string();
    format!("blobs/{}/{name}", &name[..2])
}

/// Where a letter lies; none if its name is none that a key can have.
fn letter(to: &VerifyKey, name: &EntryName) -> Option<String> {
    let name = Path::new(name.as_os_str()).to_str()?;
    Some(format!("ready/{}/{name}", mailbox(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(endpoint: &str, http: bool) -> Result<(), StoreError> {
        let store = Store {
            endpoint: endpoint.to_owned(),
            region: "eu-central-1".to_owned(),
            http,
            key: "key".to_owned(),
            secret: "secret".to_owned().into(),
        };
        Bucket::at("bucket", "hot", store).map(drop)
    }

    #[test]
    fn without_tls_it_is_this_machine_or_said_to_be_allowed() {
        for endpoint in [
            "https://s3.example.com",
            "https://192.0.2.1:9000/",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
        ] {
            assert_eq!(at(endpoint, false), Ok(()), "{endpoint}");
        }
        for endpoint in [
            "http://s3.example.com",
            "http://192.0.2.1:9000",
            "http://localhost",
        ] {
            assert_eq!(at(endpoint, true), Ok(()), "{endpoint}");
            let clear = StoreError::Clear {
                endpoint: endpoint.to_owned(),
            };
            assert_eq!(at(endpoint, false), Err(clear));
        }
        for endpoint in [
            "",
            "s3.example.com",
            "ftp://host",
            "https://",
            "https://me:secret@host",
            "https://host/?x",
        ] {
            let wrong = StoreError::Address {
                endpoint: endpoint.to_owned(),
            };
            assert_eq!(at(endpoint, true), Err(wrong), "{endpoint}");
        }
    }
}
