//! The balancer of one target: its members, and the policy among them.

use super::least_request::LeastRequest;
use super::maglev::Maglev;
use super::member::{EndpointId, Member};
use super::peak_ewma::PeakEwma;
use super::random::Random;
use super::ring::Ring;
use super::round_robin::RoundRobin;
use super::slow_start::SlowStart;
use super::view::View;
use arc_swap::ArcSwap;
use fastrand::Rng;
use meridian_model::policy::LoadBalancing;
use meridian_model::{Endpoint, EndpointAddress, Health};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Chooses among the endpoints of one target. Shared by all threads.
#[derive(Debug)]
pub struct Balancer {
    policy: LoadBalancing,
    options: BalanceOptions,
    tables: ArcSwap<Tables>,
    turn: AtomicU64,
    /// Held by an update, never by a pick.
    updating: Mutex<()>,
}

/// What holds for every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceOptions {
    /// With less than this share of healthy endpoints, in percent, health is
    /// ignored and all are used. 0, the default, never does: Consul configures
    /// Envoy so, and an unhealthy endpoint is then never asked.
    pub panic_percent: u8,
    /// Warm-up of new endpoints.
    pub slow_start: Option<SlowStart>,
}

/// What a pick depends on.
#[derive(Debug)]
pub struct PickContext<'a> {
    /// Hash of the request, for policies that want one; they draw without it.
    pub hash: Option<u64>,
    /// Source of chance.
    pub rng: &'a mut Rng,
    /// The time.
    pub now: Instant,
    /// Endpoints that were tried before; chosen again only where no other is left.
    pub exclude: &'a [EndpointId],
}

impl Balancer {
    /// A balancer over `endpoints`.
    pub fn new(
        policy: LoadBalancing,
        options: BalanceOptions,
        endpoints: &[Endpoint],
        now: Instant,
    ) -> Self {
        let members = endpoints
            .iter()
            .map(|endpoint| Arc::new(Member::new(endpoint.clone(), now, None)))
            .collect();
        Self {
            tables: ArcSwap::from_pointee(Tables::new(members, &policy, options)),
            policy,
            options,
            turn: AtomicU64::new(0),
            updating: Mutex::new(()),
        }
    }

    /// Replaces the endpoints. Those that stay keep their counters.
    ///
    /// Only the part of the list between its common beginning and end is
    /// hashed and allocated anew, so a list in stable order pays for what
    /// changed; the rest costs a pointer copy each. Ring and Maglev tables are
    /// built anew.
    pub fn update(&self, endpoints: &[Endpoint], now: Instant) {
        let _one_at_a_time = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = self.tables.load();
        let Some(members) = merged(&tables.members, endpoints, now) else {
            return;
        };
        let tables = Tables::new(members, &self.policy, self.options);
        self.tables.store(Arc::new(tables));
    }

    /// Chooses an endpoint; `None` where none may be used. Takes no lock and
    /// allocates nothing.
    pub fn pick(&self, context: PickContext<'_>) -> Option<Arc<Member>> {
        let tables = self.tables.load();
        let PickContext {
            hash,
            rng,
            now,
            exclude,
        } = context;
        let mut view = View {
            members: &tables.usable,
            now,
            hash,
            turn: &self.turn,
            slow_start: self.options.slow_start,
            exclude,
            ejected_too: tables.panic,
        };
        if let Some(member) = tables.picker.pick(&view, rng) {
            return Some(Arc::clone(member));
        }
        view.exclude = &[];
        if !exclude.is_empty()
            && let Some(member) = tables.picker.pick(&view, rng)
        {
            return Some(Arc::clone(member));
        }
        if self.options.panic_percent == 0 {
            return None;
        }
        view.ejected_too = true;
        tables.picker.pick(&view, rng).map(Arc::clone)
    }

    /// Whether a pick would find an endpoint that is healthy, not ejected, and none of `exclude`.
    pub fn has_available(&self, now: Instant, exclude: &[EndpointId]) -> bool {
        let tables = self.tables.load();
        tables.usable.iter().any(|member| {
            (tables.panic || member.stats().ejected_for(now).is_none())
                && !exclude.contains(&member.id())
        })
    }

    /// Calls `visit` for all members, healthy or not, for `/snapshot` and ejection.
    pub fn for_each(&self, visit: impl FnMut(&Arc<Member>)) {
        self.tables.load().members.iter().for_each(visit);
    }

    /// The policy.
    pub fn policy(&self) -> &LoadBalancing {
        &self.policy
    }
}

#[derive(Debug)]
struct Tables {
    /// As they were listed.
    members: Vec<Arc<Member>>,
    /// Those that may be picked.
    usable: Vec<Arc<Member>>,
    /// Whether `usable` holds everyone for want of healthy members.
    panic: bool,
    picker: Picker,
}

impl Tables {
    fn new(members: Vec<Arc<Member>>, policy: &LoadBalancing, options: BalanceOptions) -> Self {
        let healthy = |member: &&Arc<Member>| member.endpoint().health == Health::Healthy;
        let mut usable: Vec<_> = members.iter().filter(healthy).map(Arc::clone).collect();
        let panic = usable.len() * 100 < members.len() * usize::from(options.panic_percent);
        if panic {
            usable.clone_from(&members);
        }
        Self {
            picker: Picker::new(policy, &usable),
            members,
            usable,
            panic,
        }
    }
}

#[derive(Debug)]
enum Picker {
    RoundRobin(RoundRobin),
    Random(Random),
    LeastRequest(LeastRequest),
    Ring(Ring),
    Maglev(Maglev),
    PeakEwma(PeakEwma),
}

impl Picker {
    fn new(policy: &LoadBalancing, members: &[Arc<Member>]) -> Self {
        let weights = || -> Vec<u32> { members.iter().map(|member| member.weight()).collect() };
        match policy {
            LoadBalancing::RoundRobin => Self::RoundRobin(RoundRobin::new(&weights())),
            LoadBalancing::Random => Self::Random(Random::new(&weights())),
            LoadBalancing::LeastRequest { choices } => {
                Self::LeastRequest(LeastRequest::new(*choices, &weights()))
            }
            LoadBalancing::RingHash {
                min_size, max_size, ..
            } => Self::Ring(Ring::new(members, *min_size, *max_size)),
            LoadBalancing::Maglev { .. } => Self::Maglev(Maglev::new(members)),
            LoadBalancing::PeakEwma => Self::PeakEwma(PeakEwma),
        }
    }

    fn pick<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        match self {
            Self::RoundRobin(policy) => policy.pick(view),
            Self::Random(policy) => policy.pick(view, rng),
            Self::LeastRequest(policy) => policy.pick(view, rng),
            Self::Ring(policy) => policy.pick(view, rng),
            Self::Maglev(policy) => policy.pick(view, rng),
            Self::PeakEwma(policy) => policy.pick(view, rng),
        }
    }
}

/// The new list of members; `None` where nothing changed.
fn merged(old: &[Arc<Member>], new: &[Endpoint], now: Instant) -> Option<Vec<Arc<Member>>> {
    let same = |(member, endpoint): &(&Arc<Member>, &Endpoint)| member.endpoint() == *endpoint;
    let head = old.iter().zip(new).take_while(same).count();
    let (kept_head, old_rest) = old.split_at(head);
    let (_, new_rest) = new.split_at(head);
    let tail = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(same)
        .count();
    let (gone, kept_tail) = old_rest.split_at(old_rest.len() - tail);
    let (come, _) = new_rest.split_at(new_rest.len() - tail);
    if gone.is_empty() && come.is_empty() {
        return None;
    }
    let known: HashMap<&EndpointAddress, &Arc<Member>> = gone
        .iter()
        .map(|member| (&member.endpoint().address, member))
        .collect();
    let come = come.iter().map(|endpoint| {
        let member = match known.get(&endpoint.address) {
            Some(known) if known.endpoint() == endpoint => return Arc::clone(known),
            Some(known) => known.changed(endpoint.clone(), now),
            None => Member::new(endpoint.clone(), now, Some(now)),
        };
        Arc::new(member)
    });
    Some(
        kept_head
            .iter()
            .map(Arc::clone)
            .chain(come)
            .chain(kept_tail.iter().map(Arc::clone))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
