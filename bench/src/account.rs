//! What a contender costs, from the kernel's accounting of its processes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The kernel reports processor time in this unit, on every Linux there is
/// (`USER_HZ`; proc(5), `/proc/pid/stat`).
const TICK: Duration = Duration::from_millis(10);

/// A process and all that it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree {
    root: u32,
}

/// What a tree has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time, in user and kernel mode.
    pub(crate) processor: Duration,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
}

impl Tree {
    /// The tree below a process.
    pub(crate) fn of(root: u32) -> Self {
        Self { root }
    }

    /// Everything used so far by the processes that are alive.
    pub(crate) fn usage(self) -> Usage {
        let parents = parents();
        let mut members = vec![self.root];
        let mut next = 0;
        while let Some(&member) = members.get(next) {
            let children = parents.iter().filter(|(_, parent)| **parent == member);
            members.extend(children.map(|(child, _)| *child));
            next += 1;
        }
        members
            .into_iter()
            .filter_map(process)
            .fold(Usage::default(), |sum, one| Usage {
                processor: sum.processor + one.processor,
                resident: sum.resident + one.resident,
            })
    }
}

/// Every process of the machine and its parent.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, stat(id)?.parent)))
        .collect()
}

fn process(id: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().ok()?;
    Some(Usage {
        processor: TICK * stat(id)?.ticks,
        resident: kibibytes << 10,
    })
}

struct Stat {
    parent: u32,
    ticks: u32,
}

fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    parse_stat(&text)
}

/// Fields 4, 14 and 15 of proc(5); the second, a name in parentheses, may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(Stat {
        parent: number(1)?,
        ticks: number(11)? + number(12)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_nothing() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 1 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (3, 150));
    }

    #[test]
    fn a_tree_holds_its_root() {
        let usage = Tree::of(std::process::id()).usage();
        assert!(usage.resident > 1 << 20, "{usage:?}");
    }
}
