//! The features act(w_i·x) as unit vectors of L²: their norms, and the cosines between them.

use faer::{Accum, Mat, MatMut, MatRef, Par, linalg::matmul::matmul};

use super::{
    LearningCellSnapshot, ProbeBatch,
    kernel::Form,
    series::{LANES, Series},
};

/// Neurons looked at together: a block of cosines stays in the cache.
pub(super) const BLOCK: usize = 64;

/// Under a whitened Gaussian: the directions w_i/‖w_i‖, and the series that turns their cosines into those of the features.
/// On a probe batch: the features themselves, one row a neuron, each a unit vector.
#[derive(Debug)]
pub(super) struct Features {
    /// sqrt(E[act(w_i·x)²]).
    pub(super) norms: Vec<f64>,
    gaussian: Option<Gaussian>,
    /// neurons × dim.
    rows: Vec<f64>,
    dim: usize,
}

#[derive(Debug)]
struct Gaussian {
    form: Form,
    weight_norms: Vec<f64>,
    series: Series,
}

/// Neurons to compare others with.
#[derive(Debug, Default)]
pub(super) struct Panel {
    len: usize,
    rows: Vec<f64>,
    /// Coefficients of the series, term by term for each sixteen neurons; the last may be filled up with zeros.
    lanes: Vec<[f64; LANES]>,
}

impl Panel {
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Features {
    /// `weight_norms` is ‖w_i‖. None when a feature's norm is not finite.
    pub(super) fn of(snapshot: &LearningCellSnapshot, weight_norms: &[f64]) -> Option<Self> {
        let features = match &snapshot.probe {
            Some(probe) => Self::on_probe(snapshot, probe),
            None => Self::gaussian(snapshot, weight_norms),
        };
        features.norms.iter().all(|norm| norm.is_finite()).then_some(features)
    }

    fn gaussian(snapshot: &LearningCellSnapshot, weight_norms: &[f64]) -> Self {
        let form = snapshot.activation.form();
        let norms: Vec<f64> = weight_norms.iter().map(|s| form.product(*s, *s, 1.0).max(0.0).sqrt()).collect();
        let mut rows = Vec::with_capacity(snapshot.inner.len());
        for (row, norm) in snapshot.inner.chunks_exact(snapshot.width).zip(weight_norms) {
            // A row of zeros has no direction, and its feature is a constant: any direction does.
            rows.extend(row.iter().map(|entry| if *norm > 0.0 { f64::from(*entry) / norm } else { 0.0 }));
        }
        let series = Series::new(form, weight_norms, &norms);
        let gaussian = Gaussian { form, weight_norms: weight_norms.to_vec(), series };
        Self { norms, gaussian: Some(gaussian), rows, dim: snapshot.width }
    }

    fn on_probe(snapshot: &LearningCellSnapshot, probe: &ProbeBatch) -> Self {
        let (neurons, width) = (snapshot.outer.len(), snapshot.width);
        let inputs = probe.inputs.len() / width;
        let weights: Vec<f64> = snapshot.inner.iter().map(|entry| f64::from(*entry)).collect();
        let points: Vec<f64> = probe.inputs.iter().map(|entry| f64::from(*entry)).collect();
        let mut rows = vec![0.0; neurons * inputs];
        product_of_rows(&weights, &points, width, &mut rows);
        let mut norms = Vec::with_capacity(neurons);
        for row in rows.chunks_exact_mut(inputs) {
            row.iter_mut().for_each(|entry| *entry = snapshot.activation.value(*entry));
            let length = row.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
            norms.push(length / (inputs as f64).sqrt());
            if length > 0.0 {
                row.iter_mut().for_each(|entry| *entry /= length);
            }
        }
        Self { norms, gaussian: None, rows, dim: inputs }
    }

    pub(super) fn neurons(&self) -> usize {
        self.norms.len()
    }

    fn row(&self, neuron: usize) -> &[f64] {
        &self.rows[neuron * self.dim..(neuron + 1) * self.dim]
    }

    /// A panel of these neurons.
    pub(super) fn panel(&self, neurons: &[usize]) -> Panel {
        let mut panel = Panel::default();
        neurons.iter().for_each(|neuron| self.add_to(&mut panel, *neuron));
        panel
    }

    /// Adds a neuron to a panel.
    pub(super) fn add_to(&self, panel: &mut Panel, neuron: usize) {
        panel.rows.extend(self.row(neuron));
        if let Some(gaussian) = &self.gaussian {
            let (terms, lane) = (gaussian.series.terms(), panel.len % LANES);
            if lane == 0 {
                panel.lanes.resize(panel.lanes.len() + terms, [0.0; LANES]);
            }
            let from = panel.lanes.len() - terms;
            for (lanes, term) in panel.lanes[from..].iter_mut().zip(gaussian.series.of(neuron)) {
                lanes[lane] = *term;
            }
        }
        panel.len += 1;
    }

    /// Cosines between the features of `neurons` and those of the first `columns` of the panel, row-major.
    pub(super) fn cosines(&self, neurons: &[usize], panel: &Panel, columns: usize) -> Vec<f64> {
        let mut cosines = vec![0.0; neurons.len() * columns];
        if cosines.is_empty() {
            return cosines;
        }
        let rows: Vec<f64> = neurons.iter().flat_map(|neuron| self.row(*neuron)).copied().collect();
        product_of_rows(&rows, &panel.rows[..columns * self.dim], self.dim, &mut cosines);
        if let Some(gaussian) = &self.gaussian {
            gaussian.series.apply(neurons, &panel.lanes, &mut cosines, columns);
        }
        cosines
    }

    /// ‖f‖² for f = Σ loads_i e_i, e_i the unit features.
    pub(super) fn energy(&self, loads: &[f64]) -> f64 {
        if self.gaussian.is_none() {
            return self.sum(loads).iter().map(|entry| entry * entry).sum();
        }
        let all: Vec<usize> = (0..self.neurons()).collect();
        let panel = self.panel(&all);
        let mut energy = 0.0;
        for block in all.chunks(BLOCK) {
            let columns = block[0] + block.len();
            let cosines = self.cosines(block, &panel, columns);
            for (i, row) in block.iter().zip(cosines.chunks_exact(columns)) {
                let below: f64 = row[..*i].iter().zip(loads).map(|(cosine, load)| cosine * load).sum();
                let own = if self.norms[*i] > 0.0 { loads[*i] } else { 0.0 };
                energy += loads[*i] * (own + 2.0 * below);
            }
        }
        energy
    }

    /// ⟨f, e_i⟩ for these neurons.
    pub(super) fn products_with_sum(&self, loads: &[f64], neurons: &[usize]) -> Vec<f64> {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        if self.gaussian.is_none() {
            let sum = self.sum(loads);
            return neurons.iter().map(|neuron| dot(self.row(*neuron), &sum)).collect();
        }
        let panel = self.panel(neurons);
        let mut products = vec![0.0; neurons.len()];
        let all: Vec<usize> = (0..self.neurons()).collect();
        for block in all.chunks(BLOCK) {
            let cosines = self.cosines(block, &panel, panel.len());
            for (i, row) in block.iter().zip(cosines.chunks_exact(panel.len())) {
                products.iter_mut().zip(row).for_each(|(product, cosine)| *product += loads[*i] * cosine);
            }
        }
        products
    }

    /// Cosines of few neurons with each other, to rounding: no series. The diagonal is 1.
    pub(super) fn gram(&self, neurons: &[usize]) -> Mat<f64> {
        let product = |i: usize, j: usize| {
            let cosine: f64 = self.row(i).iter().zip(self.row(j)).map(|(x, y)| x * y).sum();
            match &self.gaussian {
                Some(Gaussian { form, weight_norms, .. }) => {
                    form.product(weight_norms[i], weight_norms[j], cosine.clamp(-1.0, 1.0))
                        / (self.norms[i] * self.norms[j])
                }
                None => cosine,
            }
        };
        symmetric(neurons.len(), |i, j| if i == j { 1.0 } else { product(neurons[i], neurons[j]) })
    }

    /// f on the probe batch, in the scale of the unit features.
    fn sum(&self, loads: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.dim];
        for (row, load) in self.rows.chunks_exact(self.dim).zip(loads) {
            sum.iter_mut().zip(row).for_each(|(sum, entry)| *sum += load * entry);
        }
        sum
    }
}

/// A symmetric matrix from its lower triangle, each entry asked for once.
pub(super) fn symmetric(n: usize, entry: impl Fn(usize, usize) -> f64) -> Mat<f64> {
    let mut matrix = Mat::zeros(n, n);
    for j in 0..n {
        for i in j..n {
            let value = entry(i, j);
            matrix[(i, j)] = value;
            matrix[(j, i)] = value;
        }
    }
    matrix
}

/// ⟨row i of `left`, row j of `right`⟩ into `out`, row-major; rows have `dim` entries. Sequential: fixed bits.
fn product_of_rows(left: &[f64], right: &[f64], dim: usize, out: &mut [f64]) {
    let (rows, columns) = (left.len() / dim, right.len() / dim);
    matmul(
        MatMut::from_row_major_slice_mut(out, rows, columns),
        Accum::Replace,
        MatRef::from_row_major_slice(left, rows, dim),
        MatRef::from_row_major_slice(right, columns, dim).transpose(),
        1.0,
        Par::Seq,
    );
}
