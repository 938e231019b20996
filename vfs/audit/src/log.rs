//! Writes a log: one writer at a time, append only, and whole records only.
//!
//! A record is in memory after `append`, in the file after `flush`, and on the disk after `sync`. The first failed write or sync ends
//! the log for good: after a failed `fdatasync` the kernel may drop what it could not write, so trying again would prove nothing.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use safelight_policies::event::Control;

use crate::{
    Error, Header,
    format::{HEADER_MAX, Linker, MAGIC, frame},
    reader::Reader,
    record::{Body, Checkpoint, Record, Source},
};

/// Records are handed to the kernel when this many bytes have gathered, or earlier at a `flush`.
const GATHER: usize = 256 * 1024;

/// Opens or makes the file of a log as the writer needs it, for its owner only, and makes a new name durable.
pub fn open_file(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(failed)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)?;
    Ok(file)
}

/// A log that is open for writing, and locked against other writers.
pub struct Log {
    file: Flock<File>,
    linker: Linker,
    checkpoint: Checkpoint,
    gathered: Vec<u8>,
    failed: bool,
}

impl Log {
    /// Opens a log for writing: writes the header of an empty file, checks every record of another. An incomplete last record is cut off
    /// and the cut recorded; anything else that is not as it was written is an error.
    ///
    /// `file` must be open for reading and appending. The lock belongs to the open file, so a descriptor that was passed to another
    /// process must be closed in the first.
    pub fn open(file: File, header: &Header, at_ns: u64) -> Result<Self, Error> {
        let write = |source| Error::Write { source };
        require_appendable(&file)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
            |(_, errno)| match errno {
                nix::errno::Errno::EWOULDBLOCK => Error::Locked,
                other => Error::Write {
                    source: other.into(),
                },
            },
        )?;
        let cut = cut_torn_header(&mut file)?;
        if let Some(bytes) = cut {
            let (encoded, chain) = header.encode()?;
            file.write_all(&encoded).map_err(write)?;
            let mut log = Self::at(file, Checkpoint { records: 0, chain });
            log.note_cut(bytes, at_ns)?;
            log.sync()?;
            return Ok(log);
        }
        file.seek(SeekFrom::Start(0))
            .map_err(|source| Error::Read { source })?;
        let mut reader = Reader::open(&*file)?;
        if (reader.header().job, &reader.header().client) != (header.job, &header.client) {
            return Err(Error::OtherLog {
                found_job: reader.header().job,
                found_client: reader.header().client.clone(),
                job: header.job,
                client: header.client.clone(),
            });
        }
        for record in &mut reader {
            record?;
        }
        let (checkpoint, offset, torn) = (reader.checkpoint(), reader.offset(), reader.torn());
        drop(reader);
        if torn > 0 {
            file.set_len(offset).map_err(write)?;
        }
        let mut log = Self::at(file, checkpoint);
        log.note_cut(torn, at_ns)?;
        // Also makes durable what an earlier writer had only written.
        log.sync()?;
        Ok(log)
    }

    fn at(file: Flock<File>, checkpoint: Checkpoint) -> Self {
        Self {
            file,
            linker: Linker::new(),
            checkpoint,
            gathered: Vec::with_capacity(GATHER + crate::format::FRAME_MAX),
            failed: false,
        }
    }

    fn note_cut(&mut self, bytes: u64, at_ns: u64) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.append(
            Source::Writer,
            at_ns,
            Body::Control(Control::Recovered { bytes }),
        )
    }

    /// Appends a record and numbers it.
    pub fn append(&mut self, source: Source, at_ns: u64, body: Body) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Lost);
        }
        let record = Record {
            seq: self.checkpoint.records + 1,
            at_ns,
            source,
            body,
        };
        let chain = frame(
            &self.linker,
            &self.checkpoint.chain,
            &record,
            &mut self.gathered,
        )?;
        self.checkpoint = Checkpoint {
            records: record.seq,
            chain,
        };
        if self.gathered.len() >= GATHER {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands everything to the kernel: it survives the end of this process.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Lost);
        }
        let written = self.file.write_all(&self.gathered);
        self.gathered.clear();
        self.settle(written)
    }

    /// Hands everything to the disk: it survives the end of the machine.
    pub fn sync(&mut self) -> Result<Checkpoint, Error> {
        self.flush()?;
        let synced = self.file.sync_data();
        self.settle(synced)?;
        Ok(self.checkpoint)
    }

    /// The state of the log up to the last record that was appended.
    pub fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    fn settle(&mut self, result: std::io::Result<()>) -> Result<(), Error> {
        self.failed |= result.is_err();
        result.map_err(|source| Error::Write { source })
    }
}

fn require_appendable(file: &File) -> Result<(), Error> {
    let read = |source| Error::Read { source };
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|errno| read(errno.into()))?;
    let flags = OFlag::from_bits_truncate(flags);
    let appends = flags.contains(OFlag::O_APPEND | OFlag::O_RDWR);
    if appends && file.metadata().map_err(read)?.is_file() {
        Ok(())
    } else {
        Err(Error::NotAppendable)
    }
}

/// Empties a file in which a crash left only a part of the header: the bytes that were cut off, or `None` if the header is whole. A
/// short file that did not begin as a log is left alone.
fn cut_torn_header(file: &mut Flock<File>) -> Result<Option<u64>, Error> {
    let read = |source| Error::Read { source };
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    let mut begin = Vec::new();
    (&**file)
        .take(HEADER_MAX as u64)
        .read_to_end(&mut begin)
        .map_err(read)?;
    let known = begin.len().min(MAGIC.len());
    let zero = begin.iter().all(|byte| *byte == 0);
    let whole = match begin.get(10..12) {
        Some(len) => begin.len() >= 12 + usize::from(len[0]) + 256 * usize::from(len[1]) + 32,
        None => false,
    };
    let torn = begin.len() < HEADER_MAX && (zero || (begin[..known] == MAGIC[..known] && !whole));
    if !torn {
        return Ok(None);
    }
    file.set_len(0).map_err(|source| Error::Write { source })?;
    Ok(Some(begin.len() as u64))
}
