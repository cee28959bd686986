//! The file itself: one worker at a time, by whatever name, and still the one that was opened.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::Error;

/// A ledger's file that nobody else may use.
pub(super) struct LedgerFile {
    /// Its full path, without links.
    pub(super) path: PathBuf,
    /// Kept open, since a lock ends with its file. Closing the database's own would end the locks
    /// that SQLite has on it: SQLite must have closed it before.
    _database: File,
    /// The file beside it; its lock ends last, so that whoever gets it gets the other one, too.
    _beside: File,
    /// The files that are written to, and what each was when it was opened.
    watched: Vec<(PathBuf, FileId)>,
}

/// What a file is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl LedgerFile {
    /// Creates the file if it is missing, and takes it. Two workers on one file would each take the
    /// other's claims for a dead one's.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        let path = full_path(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let name = Path::new(&name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(name)
            .with_context(|| format!("cannot create {}", name.display()))?;
        let beside = lock(file, &path)?;
        let mut database =
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let metadata = database.metadata();
        let metadata = metadata.with_context(|| format!("cannot read {}", path.display()))?;
        // A hard link or another mount has another lock file beside it. Elsewhere than on Linux such
        // a lock would get in the way of SQLite's own.
        if cfg!(target_os = "linux") {
            database = lock(database, &path)?;
        }
        let watched = vec![(path.clone(), FileId::of(&metadata))];
        Ok(Self { path, _database: database, _beside: beside, watched })
    }

    /// Watches what SQLite keeps beside the file while it is open, too: commits go to the log first,
    /// and whoever does not find its index believes that nobody else has the ledger.
    pub(super) fn watch_beside(&mut self) {
        for suffix in ["-wal", "-shm"] {
            let mut name = self.path.as_os_str().to_owned();
            name.push(suffix);
            if let Ok(metadata) = fs::metadata(&name) {
                self.watched.push((name.into(), FileId::of(&metadata)));
            }
        }
    }

    /// Whether each path still leads to the file that was opened: what is written to a file that was
    /// deleted or replaced is lost.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.watched.iter().try_for_each(|(path, id)| check(path, *id))
    }
}

fn check(path: &Path, id: FileId) -> Result<(), Error> {
    let what = match fs::metadata(path) {
        Ok(metadata) if FileId::of(&metadata) == id => return Ok(()),
        Ok(_) => "was replaced by another file".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "was deleted".to_owned(),
        Err(error) => format!("cannot be checked ({error})"),
    };
    Err(Error::Store(format!(
        "{} {what} while this worker uses it: nothing more is written; put the original file back, \
         or stop the worker, restore the ledger and start the worker again",
        path.display()
    )))
}

/// The path without links, of a file that is there from now on.
fn full_path(path: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot open {}", path.display());
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let created = OpenOptions::new().create(true).truncate(false).write(true).open(path);
            drop(created.with_context(cannot)?);
            fs::canonicalize(path).with_context(cannot)
        }
        Err(error) => Err(error).with_context(cannot),
    }
}

fn lock(file: File, path: &Path) -> anyhow::Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(format!(
            "{} is in use by another worker: an SQLite ledger serves one worker; several workers \
             with one AMQP_PREFIX need one PostgreSQL ledger (postgres://) for all",
            path.display()
        ))
        .into()),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
