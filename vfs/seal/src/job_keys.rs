//! Who may open a job at home and wherever its bundle is shown: its key, wrapped to the client and to each reader, in one small file.
//!
//! The file stays at the client's site and in bundles that the client packs; no envelope carries it. So erasing it, and the prekey's
//! secret at the render site, is erasing the job: what carriers and backups of the render site kept opens under no key that is left.
//!
//! Nothing in it is believed: a stanza that does not open, or opens to a key that does not open the objects that the client signed
//! for, is of no use.

use safelight_policies::id::{JobId, KemKey};

use crate::{
    Error,
    identity::KemSecret,
    job_key::{JobKey, ReadKey, STANZA_LEN, Stanza, TO_CLIENT},
    key_file::ClientSecret,
    random::Random,
};

const WHAT: &str = "a job's key file";
const MAGIC: [u8; 8] = *b"SLJOBKEY";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 12;
const ENTRY_LEN: usize = 1 + 32 + STANZA_LEN;

/// The most that a job's key is wrapped to, the client counted.
pub const RECIPIENTS_MAX: usize = 32;

/// What somebody may do with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Whose job it is.
    Client = 1,
    /// Who may read it and signs nothing: an auditor, a colleague.
    Reader = 2,
}

/// The wrapped keys of one job, sorted: the client's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobKeys(Vec<(Role, KemKey, Stanza)>);

impl JobKeys {
    /// Wraps a job's key to its client, and what reads it to each reader.
    pub fn wrap(
        key: &JobKey,
        job: JobId,
        client: &KemKey,
        readers: &[KemKey],
        rng: &dyn Random,
    ) -> Result<Self, Error> {
        let mut readers = readers.to_vec();
        readers.sort_unstable_by_key(|key| key.0);
        readers.dedup();
        if readers.len() >= RECIPIENTS_MAX {
            return Err(Error::TooLarge {
                what: "a list of readers",
                len: readers.len() as u64,
                max: RECIPIENTS_MAX as u64 - 1,
            });
        }
        let own = key.wrap(client, TO_CLIENT, job, rng)?;
        let mut entries = vec![(Role::Client, *client, own)];
        for reader in readers {
            let stanza = key.read_key().wrap(&reader, job, rng)?;
            entries.push((Role::Reader, reader, stanza));
        }
        Ok(Self(entries))
    }

    /// Who they are for.
    pub fn recipients(&self) -> impl Iterator<Item = (Role, &KemKey)> {
        self.0.iter().map(|(role, key, _)| (*role, key))
    }

    /// The readers.
    pub fn readers(&self) -> Vec<KemKey> {
        let readers = self.recipients().filter(|(role, _)| *role == Role::Reader);
        readers.map(|(_, key)| *key).collect()
    }

    /// The job's key, for its client: with the present receiving key or a former one.
    pub fn open(&self, job: JobId, client: &ClientSecret) -> Result<JobKey, Error> {
        for secret in client.receiving() {
            if let Some(stanza) = self.stanza(Role::Client, &secret.public()) {
                return JobKey::unwrap(stanza, secret, TO_CLIENT, job);
            }
        }
        Err(not_for_this_key())
    }

    /// What reads the job, for a reader or for its client.
    pub fn open_to_read(&self, job: JobId, secret: &KemSecret) -> Result<ReadKey, Error> {
        let public = secret.public();
        if let Some(stanza) = self.stanza(Role::Reader, &public) {
            return ReadKey::unwrap(stanza, secret, job);
        }
        let own = self.stanza(Role::Client, &public);
        let key = JobKey::unwrap(own.ok_or_else(not_for_this_key)?, secret, TO_CLIENT, job)?;
        Ok(key.into_read_key())
    }

    fn stanza(&self, role: Role, key: &KemKey) -> Option<&Stanza> {
        let found = self.0.iter().find(|(r, k, _)| (*r, k) == (role, key));
        found.map(|(_, _, stanza)| stanza)
    }

    /// The file's bytes.
    pub fn to_file_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.0.len() * ENTRY_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.0.len() as u8, 0, 0]);
        for (role, key, stanza) in &self.0 {
            out.push(*role as u8);
            out.extend_from_slice(&key.0);
            out.extend_from_slice(&stanza.to_bytes());
        }
        out
    }

    /// Reads a file's bytes.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = |reason| Error::Malformed { what: WHAT, reason };
        let rest = bytes
            .strip_prefix(&MAGIC)
            .ok_or(malformed("it does not begin like one"))?;
        let ([version, count, zeros @ ..], entries) = rest
            .split_first_chunk::<4>()
            .ok_or(malformed("it is too short"))?;
        if *version != VERSION {
            return Err(Error::Version {
                what: WHAT,
                found: *version,
                known: VERSION,
            });
        }
        let count = usize::from(*count);
        if *zeros != [0, 0] || !(1..=RECIPIENTS_MAX).contains(&count) {
            return Err(malformed("its header says what no header may"));
        }
        let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
        if entries.len() != count || !rest.is_empty() {
            return Err(malformed("it is too short or too long"));
        }
        let entries: Result<Vec<_>, Error> = entries.iter().map(entry).collect();
        let entries = entries?;
        if entries[0].0 != Role::Client || entries[1..].iter().any(|it| it.0 == Role::Client) {
            return Err(malformed("it is not for one client, first"));
        }
        if !entries[1..].is_sorted_by(|a, b| a.1.0 < b.1.0) {
            return Err(malformed("its readers are not sorted or not unique"));
        }
        Ok(Self(entries))
    }
}

fn entry(bytes: &[u8; ENTRY_LEN]) -> Result<(Role, KemKey, Stanza), Error> {
    let role = match bytes[0] {
        1 => Role::Client,
        2 => Role::Reader,
        _ => {
            return Err(Error::Malformed {
                what: WHAT,
                reason: "a role is unknown",
            });
        }
    };
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[1..33]);
    Ok((role, KemKey(key), Stanza::from_bytes(&bytes[33..])?))
}

fn not_for_this_key() -> Error {
    Error::NotTheOne {
        wanted: "a job that is sealed to this key",
        found: "one that is not",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{blob::Purpose, random::testing::Counting};

    const JOB: JobId = JobId::from_random([1; 10]);

    struct World {
        key: JobKey,
        client: ClientSecret,
        readers: Vec<KemSecret>,
        keys: JobKeys,
    }

    fn world() -> World {
        let rng = Counting::from(11);
        let key = JobKey::generate(&rng).unwrap();
        let client = ClientSecret::generate(&rng).unwrap();
        let readers: Vec<_> = (0..3).map(|_| KemSecret::generate(&rng).unwrap()).collect();
        let mut public: Vec<_> = readers.iter().map(KemSecret::public).collect();
        public.push(public[0]);
        let keys = JobKeys::wrap(&key, JOB, &client.kem.public(), &public, &rng).unwrap();
        World {
            key,
            client,
            readers,
            keys,
        }
    }

    #[test]
    fn each_opens_it_with_a_key_of_their_own_and_nobody_else_does() {
        let World {
            key,
            mut client,
            readers,
            keys,
        } = world();
        let rng = Counting::from(12);
        let blob = key.seal_blob(Purpose::Recipe, b"", b"scene", &rng).unwrap();
        let read = |key: &ReadKey| key.open_blob(Purpose::Recipe, b"", &blob);
        assert_eq!(keys.recipients().count(), 4);
        for secret in readers.iter().chain([&client.kem]) {
            let key = keys.open_to_read(JOB, secret).ok().unwrap();
            assert_eq!(read(&key).as_deref(), Ok(&b"scene"[..]));
        }
        let stranger = KemSecret::generate(&rng).unwrap();
        assert!(keys.open_to_read(JOB, &stranger).is_err());
        let other = JobId::from_random([2; 10]);
        assert!(keys.open_to_read(other, &readers[0]).is_err());
        assert!(keys.open(other, &client).is_err());
        // A client opens with a former key until that is gone.
        client.rotate(false, &rng).unwrap();
        assert!(keys.open(JOB, &client).is_ok());
        client.former_kem.clear();
        assert!(keys.open(JOB, &client).is_err());
    }

    #[test]
    fn a_reader_has_not_what_signs() {
        let World {
            key, readers, keys, ..
        } = world();
        let stanza = keys.stanza(Role::Reader, &readers[0].public()).unwrap();
        let taken = JobKey::unwrap(stanza, &readers[0], TO_CLIENT, JOB);
        assert!(taken.is_err(), "a reader's stanza is no client's");
        let read = keys.open_to_read(JOB, &readers[0]).ok().unwrap();
        // What a reader can derive a signing key from is not what the job's is derived from.
        let forged = JobKey::generate(&Fixed(*read.bytes().first_chunk().unwrap())).unwrap();
        assert_ne!(forged.attest_key().public(), key.attest_key().public());
    }

    struct Fixed([u8; 32]);

    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), Error> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
    }

    #[test]
    fn a_file_reads_back_and_a_changed_one_opens_nothing() {
        let World {
            client,
            readers,
            keys,
            ..
        } = world();
        let bytes = keys.to_file_bytes();
        assert_eq!(bytes.len(), 12 + 4 * 114);
        assert_eq!(JobKeys::from_file_bytes(&bytes), Ok(keys));
        for len in 0..bytes.len() {
            assert!(JobKeys::from_file_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(JobKeys::from_file_bytes(&longer).is_err());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            let Ok(keys) = JobKeys::from_file_bytes(&flipped) else {
                continue;
            };
            assert!(at > HEADER_LEN, "byte {at}");
            // Whoever's entry it is, theirs does not open; the others do.
            let entry = (at - HEADER_LEN) / ENTRY_LEN;
            assert_eq!(keys.open(JOB, &client).is_err(), entry == 0, "byte {at}");
            let shut = readers
                .iter()
                .filter(|secret| keys.open_to_read(JOB, secret).is_err());
            assert_eq!(shut.count(), usize::from(entry > 0), "byte {at}");
        }
    }
}
