//! Choosing between targets, when one of them has too few healthy endpoints.

/// The first target that has an available endpoint, as Consul's aggregate
/// clusters choose: the next one is used only when nobody is left in those
/// before, and given up as soon as one of them is back.
pub fn choose_target(available: impl IntoIterator<Item = bool>) -> Option<usize> {
    available.into_iter().position(|available| available)
}

/// Endpoints of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorityHealth {
    /// Healthy ones.
    pub healthy: u32,
    /// All.
    pub total: u32,
}

/// How Envoy spreads load over priorities, in percent; the sum is 100. A
/// priority counts as whole while 1/1.4 of it is healthy, what it lacks goes to
/// the next, and where all together lack it is shared in proportion. With
/// nobody healthy the first gets everything.
pub fn priority_loads(priorities: &[PriorityHealth]) -> Vec<u32> {
    let health: Vec<u32> = priorities
        .iter()
        .map(|priority| health(*priority))
        .collect();
    let sum: u32 = health.iter().sum();
    if sum == 0 {
        return (0..priorities.len())
            .map(|index| if index == 0 { 100 } else { 0 })
            .collect();
    }
    if sum >= 100 {
        let mut left = 100;
        let take = |health: &u32| {
            let load = left.min(*health);
            left -= load;
            load
        };
        return health.iter().map(take).collect();
    }
    in_proportion(&health, sum)
}

/// Envoy's overprovisioning factor.
const OVERPROVISIONING_PERCENT: u32 = 140;

fn health(priority: PriorityHealth) -> u32 {
    let percent = (priority.healthy * OVERPROVISIONING_PERCENT).checked_div(priority.total);
    percent.unwrap_or(0).min(100)
}

/// Shares of 100 by the method of the largest remainder, so that none is lost.
fn in_proportion(health: &[u32], sum: u32) -> Vec<u32> {
    let mut loads: Vec<u32> = health.iter().map(|health| health * 100 / sum).collect();
    let missing = 100 - loads.iter().sum::<u32>();
    let mut order: Vec<usize> = (0..health.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(health[*index] * 100 % sum));
    for index in order.into_iter().take(missing as usize) {
        loads[index] += 1;
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_target_with_someone_available_is_used() {
        for (available, expected) in [
            (&[true, true][..], Some(0)),
            (&[false, true], Some(1)),
            (&[false, false], None),
            (&[], None),
        ] {
            assert_eq!(choose_target(available.iter().copied()), expected);
        }
    }

    #[test]
    fn priorities_spill_over_as_in_envoy() {
        let cases: [(&[u32], &[u32]); 9] = [
            (&[100, 100], &[100, 0]),
            (&[72, 100], &[100, 0]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[25, 25, 20], &[36, 36, 28]),
            (&[0, 0], &[100, 0]),
            (&[0, 10], &[0, 100]),
        ];
        for (healthy, expected) in cases {
            let priorities: Vec<_> = healthy
                .iter()
                .map(|healthy| PriorityHealth {
                    healthy: *healthy,
                    total: 100,
                })
                .collect();
            assert_eq!(priority_loads(&priorities), expected, "{healthy:?}");
        }
    }
}
