//! Network coordinates: how far nodes and datacenters are from each other.

use std::time::Duration;

use serde::Deserialize;

use crate::{call::Call, client::Client, query::Query, wire::nullable};

impl Client {
    /// Coordinates of all nodes of a datacenter, in its LAN space (`GET /v1/coordinate/nodes`).
    /// Blocks.
    #[must_use]
    pub fn node_coordinates(&self) -> Query<Vec<NodeCoordinate>> {
        Query::new(
            self,
            Call::get("list node coordinates", ["v1", "coordinate", "nodes"]),
        )
    }

    /// Coordinates of all servers of all datacenters, in the WAN space
    /// (`GET /v1/coordinate/datacenters`). Doesn't block: a watch polls.
    #[must_use]
    pub fn datacenter_coordinates(&self) -> Query<Vec<DatacenterCoordinates>> {
        let path = ["v1", "coordinate", "datacenters"];
        Query::new(self, Call::get("list datacenter coordinates", path))
    }
}

/// Servers of one datacenter. LAN and WAN coordinates cannot be compared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DatacenterCoordinates {
    /// The datacenter.
    pub datacenter: String,
    /// The network area: `wan`.
    #[serde(rename = "AreaID")]
    pub area_id: String,
    /// Its servers.
    #[serde(deserialize_with = "nullable")]
    pub coordinates: Vec<NodeCoordinate>,
}

/// Where one node is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeCoordinate {
    /// The node.
    pub node: String,
    /// Its network segment (Enterprise), else empty.
    pub segment: String,
    /// Its coordinate.
    #[serde(deserialize_with = "nullable")]
    pub coord: Coordinate,
}

/// A point of the Vivaldi system; all lengths are seconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Coordinate {
    /// The Euclidean part.
    #[serde(deserialize_with = "nullable")]
    pub vec: Vec<f64>,
    /// How far the estimate may be off, relative; 1.5 at the start.
    pub error: f64,
    /// Correction from recent measurements.
    pub adjustment: f64,
    /// The access link's part.
    pub height: f64,
}

impl Coordinate {
    /// The estimated round trip between two points of the same space, by Consul's formula;
    /// `None` when the points don't have the same dimensions.
    #[must_use]
    pub fn round_trip(&self, other: &Self) -> Option<Duration> {
        if self.vec.len() != other.vec.len() {
            return None;
        }
        let squares = self
            .vec
            .iter()
            .zip(&other.vec)
            .map(|(a, b)| (a - b).powi(2));
        let raw = squares.sum::<f64>().sqrt() + self.height + other.height;
        let adjusted = raw + self.adjustment + other.adjustment;
        Duration::try_from_secs_f64(if adjusted > 0.0 { adjusted } else { raw }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f64, adjustment: f64) -> Coordinate {
        Coordinate {
            vec: vec![x, 0.0],
            error: 0.1,
            adjustment,
            height: 0.001,
        }
    }

    #[test]
    fn round_trip_is_distance_heights_and_adjustments() {
        let rtt = at(0.0, 0.002).round_trip(&at(0.03, 0.001)).unwrap();
        assert_eq!(rtt.as_micros(), 35_000);
    }

    #[test]
    fn negative_adjustment_below_zero_does_not_count() {
        let rtt = at(0.0, -0.1).round_trip(&at(0.03, 0.0)).unwrap();
        assert_eq!(rtt.as_micros(), 32_000);
    }

    #[test]
    fn other_dimensions_have_no_distance() {
        assert_eq!(at(0.0, 0.0).round_trip(&Coordinate::default()), None);
    }
}
