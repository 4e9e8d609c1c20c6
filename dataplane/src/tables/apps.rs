//! A listener's prepared routes and rules.

use super::clusters::{ClusterHandle, Clusters};
use crate::external::Check;
use crate::jwt::Providers;
use crate::logs::LogSink;
use crate::resilience::{Limiter, Rate};
use crate::route::Router;
use crate::sni::SniMap;
use crate::workers::Workers;
use meridian_model::listener::{HttpService, TcpService};
use meridian_model::route::{Destination, WeightedCluster};
use meridian_model::sni::{SniAction, SniService, TerminatedService};
use meridian_model::{
    ClusterName, Direction, ExternalAuthorization, Identity, IdentityName, Listener, LogExport,
    RateLimit, RouteAction, RouteName, Security, Service, SpiffeId,
};
use meridian_telemetry::metrics::{
    self, ListenerMetrics, Metrics, OverRate, RouteLabels, RouteMetrics,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What a listener's connections are served with.
#[derive(Clone)]
pub(crate) enum App {
    /// HTTP.
    Http(Arc<HttpApp>),
    /// Bytes.
    Tcp(Arc<TcpApp>),
    /// One of several, by the name in the handshake; none of them is such a choice again.
    BySni(Arc<SniMap<Self>>),
}

impl App {
    /// What a connection is served with that was chosen by this name.
    fn chosen(&self, name: Option<&str>) -> Option<&Self> {
        match self {
            Self::BySni(apps) => apps.find(name?),
            _ => Some(self),
        }
    }

    /// Whether connections that were chosen by this name are served at all any more.
    pub(crate) fn serves(&self, chosen_by: Option<&str>) -> bool {
        self.chosen(chosen_by).is_some()
    }

    /// Where it is HTTP.
    pub(crate) fn http(&self, chosen_by: Option<&str>) -> Option<&Arc<HttpApp>> {
        match self.chosen(chosen_by)? {
            Self::Http(app) => Some(app),
            _ => None,
        }
    }

    /// Where it is bytes.
    pub(crate) fn tcp(&self, chosen_by: Option<&str>) -> Option<&Arc<TcpApp>> {
        match self.chosen(chosen_by)? {
            Self::Tcp(app) => Some(app),
            _ => None,
        }
    }
}

/// An HTTP listener's tables.
pub(crate) struct HttpApp {
    /// The listener's name.
    pub(crate) listener: Arc<str>,
    /// The model's settings.
    pub(crate) service: Arc<HttpService>,
    /// From requests to actions.
    pub(crate) router: Router<Action>,
    /// Whose tokens the rules ask for; `None` where they ask for none.
    pub(crate) jwt: Option<Providers>,
    /// Limits on the rate of requests.
    pub(crate) limiters: Vec<Arc<Limiter>>,
    /// Services that are asked about requests.
    pub(crate) checks: Vec<Check>,
    /// Collectors that are told of requests.
    pub(crate) logs: Arc<[Arc<LogSink>]>,
    /// Our own identity, where the listener presents one.
    pub(crate) own: Option<SpiffeId>,
    /// What requests without a route count as.
    pub(crate) unrouted: RouteTelemetry,
    /// The listener's counters.
    pub(crate) metrics: Arc<ListenerMetrics>,
}

impl HttpApp {
    /// Whether a request to this path is one too many. Every limit counts a request that the
    /// ones before let pass.
    pub(crate) fn is_over_rate(&self, path: &str) -> bool {
        if self.limiters.is_empty() {
            return false;
        }
        let now = Instant::now();
        self.limiters.iter().any(|limiter| {
            let rate = limiter.admit(path, now, || fastrand::u8(..100));
            match rate {
                Rate::Below => {}
                Rate::Spared => self.metrics.over_rate(OverRate::Spared),
                Rate::Refused => self.metrics.over_rate(OverRate::Refused),
            }
            rate == Rate::Refused
        })
    }
}

/// A TCP listener's tables.
pub(crate) struct TcpApp {
    /// The listener's name.
    pub(crate) listener: Arc<str>,
    /// The model's settings.
    pub(crate) service: Arc<TcpService>,
    /// Clusters with their weights.
    pub(crate) clusters: Vec<(Arc<ClusterHandle>, u32)>,
    /// Services that are asked about connections.
    pub(crate) checks: Vec<Check>,
    /// Our own identity, where the listener presents one.
    pub(crate) own: Option<SpiffeId>,
    /// The listener's counters.
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// A route's prepared action.
pub(crate) struct Action {
    /// What the model says.
    pub(crate) model: Arc<RouteAction>,
    /// Clusters of [`Destination::Clusters`], in the model's order.
    pub(crate) clusters: Vec<WeightedHandle>,
}

/// A cluster of a route.
pub(crate) struct WeightedHandle {
    /// The cluster.
    pub(crate) cluster: Arc<ClusterHandle>,
    /// The model's weight and header changes.
    pub(crate) model: WeightedCluster,
    /// What its requests count as.
    pub(crate) telemetry: RouteTelemetry,
}

/// What a request counts as.
#[derive(Clone)]
pub(crate) struct RouteTelemetry {
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) route: Arc<str>,
    pub(crate) cluster: Option<Arc<str>>,
}

/// Draws one of several by weight. `None` where all weights are 0.
pub(crate) fn draw<T>(choices: &[T], weight: impl Fn(&T) -> u32) -> Option<&T> {
    let total: u64 = choices.iter().map(|choice| u64::from(weight(choice))).sum();
    if let [only] = choices {
        return (total > 0).then_some(only);
    }
    let mut place = fastrand::u64(..total.max(1));
    choices.iter().find(|choice| {
        let share = u64::from(weight(choice));
        let drawn = place < share;
        place = place.saturating_sub(share);
        drawn
    })
}

/// Makes apps of listeners.
pub(crate) struct AppBuilder<'a> {
    pub(crate) clusters: &'a mut Clusters,
    pub(crate) identities: &'a BTreeMap<IdentityName, Arc<Identity>>,
    pub(crate) metrics: &'a Metrics,
    /// Who sends what is not for clients.
    pub(crate) workers: &'a Workers,
    /// What the listener was served with so far.
    pub(crate) before: Option<&'a App>,
}

/// Value of the labels `route` and `cluster` where there is none.
const NONE: &str = "none";

impl AppBuilder<'_> {
    /// Prepares what `listener` serves.
    pub(crate) fn build(&mut self, listener: &Listener) -> App {
        let identity = match &listener.security {
            Security::Mesh { identity, .. } => Some(identity),
            Security::Plain | Security::Edge(_) => None,
        };
        match &listener.service {
            Service::Http(service) => App::Http(Arc::new(self.http(listener, service, identity))),
            Service::Tcp(service) => App::Tcp(Arc::new(self.tcp(listener, service, identity))),
            Service::BySni(service) => App::BySni(Arc::new(self.by_sni(listener, service))),
        }
    }

    fn by_sni(&mut self, listener: &Listener, service: &SniService) -> SniMap<App> {
        let mut apps = Vec::new();
        for chain in &service.chains {
            let app = match &chain.action {
                SniAction::Passthrough {
                    cluster,
                    idle_timeout,
                } => {
                    let service = Arc::new(TcpService {
                        clusters: vec![(cluster.clone(), 1)],
                        // The endpoint knows who calls; nobody here does.
                        authorization: None,
                        idle_timeout: *idle_timeout,
                        checks: Vec::new(),
                    });
                    App::Tcp(Arc::new(self.tcp(listener, &service, None)))
                }
                SniAction::Terminate {
                    identity, service, ..
                } => match service {
                    TerminatedService::Http(service) => {
                        App::Http(Arc::new(self.http(listener, service, Some(identity))))
                    }
                    TerminatedService::Tcp(service) => {
                        App::Tcp(Arc::new(self.tcp(listener, service, Some(identity))))
                    }
                },
            };
            apps.push((chain.names.as_slice(), app));
        }
        SniMap::new(apps)
    }

    fn http(
        &mut self,
        listener: &Listener,
        service: &Arc<HttpService>,
        identity: Option<&IdentityName>,
    ) -> HttpApp {
        let router = Router::compile(&service.routes, |route, action| {
            self.action(listener, route, action)
        });
        let rules = service.authorization.as_ref();
        HttpApp {
            listener: listener.name.shared(),
            service: Arc::clone(service),
            router,
            jwt: rules.and_then(|rules| Providers::prepare(&rules.providers)),
            limiters: self.limiters(&service.filters.rates),
            checks: self.checks(&service.filters.checks),
            logs: self.logs(&service.filters.logs),
            own: self.own(identity),
            unrouted: self.telemetry(listener, NONE.into(), None),
            metrics: self.metrics.listener(listener.name.as_str()),
        }
    }

    fn own(&self, identity: Option<&IdentityName>) -> Option<SpiffeId> {
        let identity = self.identities.get(identity?)?;
        Some(identity.spiffe.clone())
    }

    fn checks(&mut self, models: &[Arc<ExternalAuthorization>]) -> Vec<Check> {
        let clusters = &mut self.clusters;
        let prepare = |model: &Arc<ExternalAuthorization>| {
            Check::prepare(model, clusters.handle(&model.cluster))
        };
        models.iter().map(prepare).collect()
    }

    /// A collector that stays as it was keeps its queue.
    fn logs(&mut self, models: &[Arc<LogExport>]) -> Arc<[Arc<LogSink>]> {
        let before = match self.before {
            Some(App::Http(before)) => Arc::clone(&before.logs),
            _ => Arc::new([]),
        };
        let sink = |model: &Arc<LogExport>| {
            let same = before.iter().find(|sink| sink.model() == model);
            same.map_or_else(
                || {
                    let cluster = self.clusters.handle(&model.cluster);
                    Arc::new(LogSink::start(model, cluster, self.workers, self.metrics))
                },
                Arc::clone,
            )
        };
        models.iter().map(sink).collect()
    }

    /// A limit that stays as it was keeps what was taken of it.
    fn limiters(&self, rates: &[RateLimit]) -> Vec<Arc<Limiter>> {
        let mut before = match self.before {
            Some(App::Http(before)) => before.limiters.clone(),
            _ => Vec::new(),
        };
        let limiter = |rate: &RateLimit| {
            let same = before.iter().position(|limiter| limiter.model() == rate);
            match same {
                Some(place) => before.swap_remove(place),
                None => Arc::new(Limiter::new(rate.clone(), Instant::now())),
            }
        };
        rates.iter().map(limiter).collect()
    }

    fn tcp(
        &mut self,
        listener: &Listener,
        service: &Arc<TcpService>,
        identity: Option<&IdentityName>,
    ) -> TcpApp {
        let clusters = service
            .clusters
            .iter()
            .map(|(cluster, weight)| (self.clusters.handle(cluster), *weight))
            .collect();
        TcpApp {
            listener: listener.name.shared(),
            service: Arc::clone(service),
            clusters,
            checks: self.checks(&service.checks),
            own: self.own(identity),
            metrics: self.metrics.listener(listener.name.as_str()),
        }
    }

    fn action(
        &mut self,
        listener: &Listener,
        route: &RouteName,
        action: &Arc<RouteAction>,
    ) -> Action {
        let weighted = match &action.destination {
            Destination::Clusters(clusters) => clusters.as_slice(),
            Destination::Redirect(_) | Destination::Unroutable { .. } => &[],
        };
        let clusters = weighted
            .iter()
            .map(|weighted| WeightedHandle {
                cluster: self.clusters.handle(&weighted.cluster),
                model: weighted.clone(),
                telemetry: self.telemetry(listener, route.shared(), Some(&weighted.cluster)),
            })
            .collect();
        Action {
            model: Arc::clone(action),
            clusters,
        }
    }

    fn telemetry(
        &self,
        listener: &Listener,
        route: Arc<str>,
        cluster: Option<&ClusterName>,
    ) -> RouteTelemetry {
        let cluster = cluster.map(ClusterName::shared);
        let labels = RouteLabels {
            direction: direction(listener.direction),
            listener: listener.name.shared(),
            route: Arc::clone(&route),
            cluster: cluster.clone().unwrap_or_else(|| NONE.into()),
        };
        RouteTelemetry {
            metrics: self.metrics.route(&labels),
            route,
            cluster,
        }
    }
}

fn direction(direction: Direction) -> metrics::Direction {
    match direction {
        Direction::Inbound => metrics::Direction::Inbound,
        Direction::Outbound => metrics::Direction::Outbound,
        Direction::Edge => metrics::Direction::Edge,
    }
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn draws_by_weight_and_never_a_zero() {
        let choices = [("a", 3), ("never", 0), ("b", 1)];
        let mut hits = [0; 2];
        for _ in 0..4000 {
            match draw(&choices, |choice| choice.1).unwrap().0 {
                "a" => hits[0] += 1,
                "b" => hits[1] += 1,
                other => panic!("{other} was drawn"),
            }
        }
        assert!((2800..3200).contains(&hits[0]), "{hits:?}");
    }

    #[test]
    fn draws_nothing_from_zeros() {
        assert!(draw(&[("a", 0)], |choice| choice.1).is_none());
        assert!(draw(&[("a", 0), ("b", 0)], |choice| choice.1).is_none());
    }
}
