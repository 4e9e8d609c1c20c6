//! The folder on disk: nobody else's, and every file in it whole.

use super::MemoryError;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Held as long as it lives; the lock ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

const LOCK: &str = "lock";

/// Files begin their life under this ending.
const DRAFT: &str = "new";

/// Writing by others lets them say whom to trust.
const WRITABLE: u32 = 0o022;
const OPEN: u32 = 0o077;

impl Folder {
    /// Opens the folder, or makes it. With keys inside nobody else may even look.
    pub(super) fn open(path: &Path, keys: bool) -> Result<Self, MemoryError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed("make", path))?;
        let forbidden = if keys { OPEN } else { WRITABLE };
        tight(path, forbidden, if keys { 0o700 } else { 0o755 })?;
        let lock = path.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(failed("open", &lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(MemoryError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &lock)(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: file,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, MemoryError> {
        let path = self.path.join(name);
        match tight(&path, OPEN, 0o600) {
            Err(MemoryError::File { source, .. }) if is_absent(&source) => return Ok(None),
            checked => checked?,
        }
        fs::read(&path).map(Some).map_err(failed("read", &path))
    }

    /// Writes and removes files; all of them, even where one fails.
    pub(super) fn write_all(
        &self,
        files: BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<(), MemoryError> {
        let mut first = Ok(());
        for (name, content) in files {
            let done = match content {
                Some(bytes) => self.write(&name, &bytes),
                None => self.remove(&name),
            };
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    /// Removes the answers that `is_gone` names.
    pub(super) fn clear(&self, is_gone: &dyn Fn(&str) -> bool) -> Result<(), MemoryError> {
        let entries = fs::read_dir(&self.path).map_err(failed("list", &self.path))?;
        for entry in entries {
            let entry = entry.map_err(failed("list", &self.path))?;
            let name = entry.file_name();
            // Others' files are left alone.
            let Some(name) = name.to_str().filter(|name| name.ends_with(".json")) else {
                continue;
            };
            if is_gone(name) {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// In one step, so that a crash leaves the old file or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), MemoryError> {
        let (path, draft) = (
            self.path.join(name),
            self.path.join(name).with_extension(DRAFT),
        );
        // A draft that a crash left behind may have another mode.
        if let Err(error) = fs::remove_file(&draft)
            && !is_absent(&error)
        {
            return Err(failed("replace", &draft)(error));
        }
        let mut options = OpenOptions::new();
        options.create_new(true).write(true).mode(0o600);
        let written = options.open(&draft).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()
        });
        written.map_err(failed("write", &draft))?;
        fs::rename(&draft, &path).map_err(failed("replace", &path))
    }

    fn remove(&self, name: &str) -> Result<(), MemoryError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

/// Refuses what others have rights to. A link is refused, too: it is not what was written.
fn tight(path: &Path, forbidden: u32, wanted: u32) -> Result<(), MemoryError> {
    let found = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & forbidden != 0 {
        return Err(MemoryError::Loose {
            path: path.to_owned(),
            mode,
            wanted,
        });
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MemoryError {
    let path = path.to_owned();
    move |source| MemoryError::File {
        operation,
        path,
        source,
    }
}
