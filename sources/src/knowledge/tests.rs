//! What is known, what fails, and what is remembered.

use super::*;
use meridian_model::SourceState;
use std::sync::Arc;
use std::time::Duration;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn failed() -> News {
    News::Failed(Trouble::answer("refused"))
}

#[test]
fn a_failure_forgets_nothing() {
    let mut knowledge = Knowledge::default();
    let roots = Fact::Roots(Arc::default());
    knowledge.take(Topic::Roots, News::Learned(roots), at(1));
    knowledge.take(Topic::Roots, failed(), at(2));
    assert!(knowledge.roots().is_some());
    let chain = ChainQuery::default();
    assert!(matches!(knowledge.chain(&chain), Known::Waiting));
    knowledge.take(Topic::Chain(chain.clone()), failed(), at(3));
    assert!(matches!(knowledge.chain(&chain), Known::Failed("refused")));
}

#[test]
fn what_is_no_longer_wanted_is_forgotten_with_its_failures() {
    let mut knowledge = Knowledge::default();
    let roots = Fact::Roots(Arc::default());
    knowledge.take(Topic::Roots, News::Learned(roots), at(1));
    knowledge.take(Topic::Agent, failed(), at(2));
    knowledge.keep(&BTreeSet::from([Topic::Roots]));
    assert!(knowledge.roots().is_some());
    assert_eq!(knowledge.state(), SourceState::Current);
}
