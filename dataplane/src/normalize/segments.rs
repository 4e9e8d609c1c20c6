//! Dot segments of a path.

use super::Reason;

/// Refuses `.` and `..` that carry a parameter, written plainly or escaped.
pub(super) fn refuse_hidden_dots(path: &[u8]) -> Result<(), Reason> {
    let hidden = |segment: &[u8]| {
        let rest = segment
            .strip_prefix(b"..")
            .or_else(|| segment.strip_prefix(b"."));
        let escaped = |rest: &[u8]| {
            rest.get(..3)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"%3b"))
        };
        rest.is_some_and(|rest| rest.starts_with(b";") || escaped(rest))
    };
    if path.split(|byte| *byte == b'/').any(hidden) {
        return Err(Reason::DotSegmentWithParameter);
    }
    Ok(())
}

/// Removes dot segments (RFC 3986, 5.2.4). `..` at the root stays at the root.
/// The result starts with a slash.
pub(super) fn resolve_dots(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut resolved: Vec<u8> = Vec::with_capacity(path.len() + 1);
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => {
                let parent = resolved.iter().rposition(|byte| *byte == b'/');
                resolved.truncate(parent.unwrap_or_default());
            }
            segment => {
                resolved.push(b'/');
                resolved.extend_from_slice(segment);
                continue;
            }
        }
        // A dot segment at the end names a directory.
        if last {
            resolved.push(b'/');
        }
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    resolved
}
