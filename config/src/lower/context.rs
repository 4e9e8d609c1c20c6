//! What every block's lowering needs: where to report, and which files to read.

use crate::path::Path;
use crate::report::Severity;
use crate::shape::Found;
use crate::suggest::nearest;
use crate::yaml::Node;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path as FilePath, PathBuf};

/// Collects problems, and reads files relative to the one being loaded.
pub(crate) struct Context<'t> {
    tree: &'t Node,
    base: &'t FilePath,
    broken: HashSet<Path>,
    /// The broken places and all that holds one.
    tainted: HashSet<Path>,
    /// Whether a name was referred to that does not exist.
    unresolved: bool,
    /// What is wrong.
    pub(crate) found: Vec<Found>,
    /// Files that were read.
    pub(crate) inputs: Vec<PathBuf>,
}

/// Names that may be referred to.
pub(crate) struct Names<'f> {
    /// `listener`, `backend`: for messages.
    noun: &'static str,
    /// Position of each.
    positions: HashMap<&'f str, usize>,
    /// Whether all of them are known; a broken name may be any.
    complete: bool,
}

impl<'t> Context<'t> {
    /// For a file whose tree has `broken` places.
    pub(crate) fn new(tree: &'t Node, base: &'t FilePath, broken: Vec<Path>) -> Self {
        Self {
            tree,
            base,
            tainted: broken.iter().flat_map(Path::lineage).collect(),
            broken: broken.into_iter().collect(),
            unresolved: false,
            found: Vec::new(),
            inputs: Vec::new(),
        }
    }

    /// Reports that `path` is wrong.
    pub(crate) fn error(&mut self, path: &Path, message: impl Into<String>) {
        self.report(Found::error(path, message));
    }

    /// Reports that `path` is worth a look.
    pub(crate) fn warn(&mut self, path: &Path, message: impl Into<String>) {
        let mut found = Found::error(path, message);
        found.severity = Severity::Warning;
        self.report(found);
    }

    fn report(&mut self, found: Found) {
        if self.sound(&found.path) {
            self.found.push(found);
        }
    }

    /// Whether neither `path` nor anything around or inside it is broken.
    pub(crate) fn sound(&self, path: &Path) -> bool {
        // Most files are sound, and a large one asks often.
        self.broken.is_empty()
            || !self.tainted.contains(path)
                && !path.lineage().any(|around| self.broken.contains(&around))
    }

    /// Whether every reference is known, so that what is not referred to is unused.
    pub(crate) fn references_known(&self) -> bool {
        self.broken.is_empty() && !self.unresolved
    }

    /// Whether `path` was written, and is not a default.
    pub(crate) fn written(&self, path: &Path) -> bool {
        self.tree.has(path)
    }

    /// The line of `path`.
    pub(crate) fn line(&self, path: &Path) -> usize {
        self.tree.line_of(path)
    }

    /// The names of a list's items; two alike are reported.
    pub(crate) fn names<'f>(
        &mut self,
        noun: &'static str,
        list: &Path,
        names: impl IntoIterator<Item = &'f str>,
    ) -> Names<'f> {
        let mut positions = HashMap::new();
        let mut complete = !self.broken.contains(list);
        for (index, name) in names.into_iter().enumerate() {
            let path = list.index(index).key("name");
            complete &= self.sound(&path);
            if let Some(first) = positions.get(name) {
                let line = self.line(&list.index(*first).key("name"));
                let message = format!("{noun} {name:?} stands already in line {line}");
                self.error(&path, message);
            } else {
                positions.insert(name, index);
            }
        }
        Names {
            noun,
            positions,
            complete,
        }
    }

    /// The position of `name`; an unknown one is reported at `path`.
    pub(crate) fn find(&mut self, names: &Names<'_>, name: &str, path: &Path) -> Option<usize> {
        let position = names.positions.get(name).copied();
        self.unresolved |= position.is_none();
        if position.is_none() && names.complete {
            let meant = nearest(name, names.positions.keys().copied());
            let message = format!("there is no {} {name:?}", names.noun);
            self.report(Found::error(path, message).meaning(meant));
        }
        position
    }

    /// `file`, relative to the one being loaded.
    pub(crate) fn resolve(&self, file: &FilePath) -> PathBuf {
        self.base.join(file)
    }

    /// Reads a file; an unreadable one is reported at `path`.
    pub(crate) fn read(&mut self, file: &FilePath, path: &Path) -> Option<Vec<u8>> {
        let file = self.resolve(file);
        let read = fs::read(&file);
        if let Err(error) = &read {
            self.error(path, format!("cannot read {}: {error}", file.display()));
        }
        self.inputs.push(file);
        read.ok()
    }
}
