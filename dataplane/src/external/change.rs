//! Changes that an external authorization makes to heads.

use crate::headers::Head;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_error::Result;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    name: HeaderName,
    action: Action,
}

/// What is done about a header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Takes it away.
    Remove,
    /// Writes it in place of whatever was there.
    Set(HeaderValue),
    /// As [`Action::Set`], where there is one.
    SetIfPresent(HeaderValue),
    /// Writes it where there is none.
    AddIfAbsent(HeaderValue),
    /// Writes it beside what is there.
    Add(HeaderValue),
    /// Joins it to what is there by a comma.
    Join(HeaderValue),
    /// As [`Action::Join`], where there is one.
    JoinIfPresent(HeaderValue),
}

impl Change {
    /// A change; `None` of a header that frames or addresses the message.
    pub(crate) fn new(name: HeaderName, action: Action) -> Option<Self> {
        (!is_untouchable(&name)).then_some(Self { name, action })
    }
}

/// Whether a header is ours to write: a service that rewrites it would make the message another.
pub(super) fn is_untouchable(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 6] = [
        CONNECTION,
        CONTENT_LENGTH,
        HOST,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    OURS.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "trailer")
}

/// Changes a head.
///
/// # Errors
/// When it would have more headers than a head can hold.
pub(crate) fn apply(changes: &[Change], head: &mut impl Head) -> Result<()> {
    for Change { name, action } in changes {
        match effect(action, name, head.headers()) {
            Effect::None => {}
            Effect::Remove => head.remove(name),
            Effect::Insert(value) => head.insert(name, &value)?,
            Effect::Append(value) => head.append(name, &value)?,
        }
    }
    Ok(())
}

enum Effect {
    None,
    Remove,
    Insert(HeaderValue),
    Append(HeaderValue),
}

fn effect(action: &Action, name: &HeaderName, headers: &HeaderMap) -> Effect {
    let present = headers.contains_key(name);
    match action {
        Action::Remove => Effect::Remove,
        Action::Set(value) => Effect::Insert(value.clone()),
        Action::SetIfPresent(value) if present => Effect::Insert(value.clone()),
        Action::AddIfAbsent(value) if !present => Effect::Append(value.clone()),
        Action::Add(value) => Effect::Append(value.clone()),
        Action::Join(value) if !present => Effect::Append(value.clone()),
        Action::Join(value) | Action::JoinIfPresent(value) if present => {
            let values = headers.get_all(name).iter().chain([value]);
            let joined = values.map(HeaderValue::as_bytes).collect::<Vec<_>>();
            // Legal pieces make a legal whole.
            HeaderValue::from_bytes(&joined.join(&b','))
                .map_or_else(|_| Effect::Insert(value.clone()), Effect::Insert)
        }
        _ => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::RequestHeader;

    fn changed(action: fn(HeaderValue) -> Action, before: &[&'static str]) -> Vec<String> {
        let name = HeaderName::from_static("x-a");
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for value in before {
            head.append_header(name.clone(), *value).unwrap();
        }
        let change = Change::new(name, action(HeaderValue::from_static("new"))).unwrap();
        apply(&[change], &mut head).unwrap();
        let values = head.headers.get_all("x-a").iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_action_has_its_effect() {
        let none: [&str; 0] = [];
        assert_eq!(changed(Action::Set, &["1", "2"]), ["new"]);
        assert_eq!(changed(|_| Action::Remove, &["1", "2"]), none);
        assert_eq!(changed(Action::SetIfPresent, &[]), none);
        assert_eq!(changed(Action::SetIfPresent, &["1"]), ["new"]);
        assert_eq!(changed(Action::AddIfAbsent, &["1"]), ["1"]);
        assert_eq!(changed(Action::AddIfAbsent, &[]), ["new"]);
        assert_eq!(changed(Action::Add, &["1"]), ["1", "new"]);
        assert_eq!(changed(Action::Join, &["1", "2"]), ["1,2,new"]);
        assert_eq!(changed(Action::Join, &[]), ["new"]);
        assert_eq!(changed(Action::JoinIfPresent, &[]), none);
        assert_eq!(changed(Action::JoinIfPresent, &["1"]), ["1,new"]);
    }

    #[test]
    fn nothing_changes_how_a_message_is_framed_or_addressed() {
        for name in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            assert_eq!(Change::new(name, Action::Remove), None);
        }
    }
}
