//! Weighted draws in constant time (Vose's alias method).

use fastrand::Rng;

/// Draws indexes in proportion to weights.
#[derive(Debug)]
pub(super) enum AliasTable {
    /// All weights are equal: no table is needed.
    Even(usize),
    Weighted(Vec<Column>),
}

/// An index that is kept with a chance of `keep` in 2³², and given up for
/// another otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    keep: u32,
    other: u32,
}

impl AliasTable {
    pub(super) fn new(weights: &[u32]) -> Self {
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        if even {
            return Self::Even(weights.len());
        }
        Self::Weighted(columns(weights))
    }

    /// An index; 0 where there is none.
    pub(super) fn draw(&self, rng: &mut Rng) -> usize {
        match self {
            Self::Even(length) => rng.usize(0..(*length).max(1)),
            Self::Weighted(columns) => {
                let index = rng.usize(0..columns.len().max(1));
                match columns.get(index) {
                    Some(column) if rng.u32(..) > column.keep => column.other as usize,
                    _ => index,
                }
            }
        }
    }
}

fn columns(weights: &[u32]) -> Vec<Column> {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    // Lossless: the model caps an endpoint list far below 2^52.
    let count = weights.len() as f64;
    let mut shares: Vec<f64> = weights
        .iter()
        .map(|weight| f64::from(*weight) * count / total)
        .collect();
    let mut columns: Vec<Column> = (0..)
        .zip(weights)
        .map(|(index, _)| Column {
            keep: u32::MAX,
            other: index,
        })
        .collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|index| shares[*index] < 1.0);
    while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
        columns[poor] = Column {
            // Saturates at the ends, as meant.
            keep: (shares[poor] * f64::from(u32::MAX)) as u32,
            other: columns[rich].other,
        };
        shares[rich] -= 1.0 - shares[poor];
        if shares[rich] < 1.0 {
            large.pop();
            small.push(rich);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let mut rng = Rng::with_seed(3);
        for weights in [
            &[1, 1, 1][..],
            &[1, 2, 5],
            &[128, 1],
            &[7],
            &[3, 1, 1, 1, 10],
        ] {
            let table = AliasTable::new(weights);
            let total: u32 = weights.iter().sum();
            let mut hits = vec![0_u32; weights.len()];
            for _ in 0..100_000 {
                hits[table.draw(&mut rng)] += 1;
            }
            for (weight, hits) in weights.iter().zip(hits) {
                let expected = f64::from(*weight) / f64::from(total);
                let actual = f64::from(hits) / 100_000.0;
                assert!((expected - actual).abs() < 0.006, "{weights:?}: {actual}");
            }
        }
    }
}
