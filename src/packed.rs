//! Packed bundles: a job in a directory, for whoever may read it. Checked without a key, opened with one.
//!
//! The directory is as hostile as any medium: nothing of it is believed but what the signature of a trusted client and a hash hold.

mod pack;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use safelight_bundle::{BlobList, Document, Envelope, Packed};
use safelight_policies::id::VerifyKey;
use safelight_seal::{
    blob::Purpose,
    identity::KemSecret,
    job_key::ReadKey,
    job_keys::JobKeys,
    manifest::{Kind as ManifestKind, Manifest},
};
use safelight_vfs::area::Area;

use crate::failure::{Failure, Kind, OrFail};

pub(crate) use pack::pack;

/// Bytes in front of a signed document.
const HEAD: usize = 106;
/// The longest job key file, and more.
const KEYS_MAX: usize = 1 << 16;

/// A bundle that its client signed.
pub(crate) struct PackedDir {
    root: PathBuf,
    pub(crate) area: Area,
    pub(crate) client: VerifyKey,
    pub(crate) packed: Packed,
    pub(crate) envelope: Envelope,
    list: BlobList,
}

/// A bundle, opened with a key.
pub(crate) struct OpenedPack {
    pub(crate) inputs: Manifest,
    /// What each attempt left that sealed something: its place in the bundle's results, and its manifest.
    pub(crate) results: Vec<(usize, Manifest)>,
    pub(crate) key: ReadKey,
}

/// Who signed a bundle, by its own word.
pub(crate) fn claimed_client(root: &Path) -> Result<VerifyKey, Failure> {
    safelight_bundle::claimed_signer(&signed(root)?).or_fail(Kind::User)
}

fn signed(root: &Path) -> Result<Vec<u8>, Failure> {
    read_bounded(&root.join("bundle"), HEAD + Packed::BYTES_MAX)
}

impl PackedDir {
    /// Reads what names the parts, signed by this client.
    pub(crate) fn read(root: &Path, client: VerifyKey) -> Result<Self, Failure> {
        let packed: Packed =
            safelight_bundle::open(&signed(root)?, &client).or_fail(Kind::Denied)?;
        let blobs = root.join("blobs");
        if !blobs.is_dir() {
            let message = format!("{} has no blobs", root.display());
            return Err(Failure::new(Kind::User, message).hint("copy it again"));
        }
        let area = Area::open(blobs).or_fail(Kind::Environment)?;
        let envelope = area.read(packed.envelope).or_fail(Kind::Denied)?;
        let envelope: Envelope =
            safelight_bundle::open(&envelope, &client).or_fail(Kind::Denied)?;
        let list = area.read(packed.load.list).or_fail(Kind::Denied)?;
        let list = BlobList::decode(&list).or_fail(Kind::Denied)?;
        if let Some(why) = packed.disagreement(&envelope, &list) {
            return Err(Failure::new(
                Kind::Denied,
                format!("the bundle disagrees: {why}"),
            ));
        }
        Ok(Self {
            root: root.to_owned(),
            area,
            client,
            packed,
            envelope,
            list,
        })
    }

    /// Reads every blob: each must be there, with its length and its hash. Answers how many there are, and their bytes.
    pub(crate) fn check(&self) -> Result<(usize, u64), Failure> {
        for (object, len) in self.list.entries() {
            let found = self.area.read(*object).or_fail(Kind::Denied)?.len();
            if found as u64 != u64::from(*len) {
                let message = format!("object {object} has {found} bytes, and {len} are listed");
                return Err(Failure::new(Kind::Denied, message));
            }
        }
        Ok((self.list.entries().len(), self.list.bytes()))
    }

    /// Opens the bundle with the first of these keys that it is sealed to.
    pub(crate) fn open<'a>(
        &self,
        secrets: impl Iterator<Item = &'a KemSecret>,
    ) -> Result<OpenedPack, Failure> {
        let keys = read_bounded(&self.root.join("keys"), KEYS_MAX)?;
        let keys = JobKeys::from_file_bytes(&keys).or_fail(Kind::Denied)?;
        let job = self.packed.job;
        let opened = secrets
            .map(|secret| keys.open_to_read(job, secret))
            .find_map(Result::ok);
        let key = opened.ok_or_else(|| {
            Failure::new(Kind::Denied, format!("{job} is not sealed to this key"))
                .hint("its client names who may read it: safelight bundle pack --reader KEY")
        })?;
        let open = |object, kind: &ManifestKind, by: &VerifyKey| -> Result<Manifest, Failure> {
            let sealed = self.area.read(object).or_fail(Kind::Denied)?;
            Manifest::open(&sealed, &key, job, kind, by).or_fail(Kind::Denied)
        };
        let inputs = open(self.envelope.inputs, &ManifestKind::Inputs, &self.client)?;
        let mut results = Vec::new();
        for at in 0..self.packed.results.len() {
            if let Some(object) = self.packed.results[at].manifest {
                results.push((at, open(object, &self.kind(at), &self.envelope.attest)?));
            }
        }
        Ok(OpenedPack {
            inputs,
            results,
            key,
        })
    }

    /// What a task printed, if it was sealed.
    pub(crate) fn log(&self, opened: &OpenedPack, at: usize) -> Result<Option<Vec<u8>>, Failure> {
        let Some(object) = self.packed.results[at].log else {
            return Ok(None);
        };
        let sealed = self.area.read(object).or_fail(Kind::Denied)?;
        let place = self.kind(at).place(self.packed.job);
        let text = opened.key.open_blob(Purpose::TaskLog, &place, &sealed);
        text.or_fail(Kind::Denied).map(Some)
    }

    fn kind(&self, at: usize) -> ManifestKind {
        let left = &self.packed.results[at];
        ManifestKind::Result {
            session: left.session,
            attempt: left.attempt,
            fence: left.fence,
        }
    }
}

/// Reads a file that may not be longer than this.
fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", path.display());
        Failure::new(Kind::User, message).hint("name a directory that safelight bundle pack made")
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > most {
        let message = format!("{} is longer than {most} bytes", path.display());
        return Err(Failure::new(Kind::Denied, message));
    }
    Ok(bytes)
}
