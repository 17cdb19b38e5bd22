//! Figures: medians over rounds, percentiles, and their JSON line.

use std::{collections::BTreeMap, error::Error};

use serde_json::{Map, Value};

/// The result of a scenario, or the reason why it did not run.
pub type Outcome<T = Map<String, Value>> = Result<T, Box<dyn Error>>;

/// The figures of one round by name.
pub type Figures = BTreeMap<&'static str, f64>;

/// Returns the median of each figure over all rounds.
pub fn medians(rounds: &[Figures]) -> Figures {
    let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for (name, value) in rounds.iter().flatten() {
        all.entry(name).or_default().push(*value);
    }
    all.into_iter().map(|(name, mut values)| (name, percentile(&mut values, 50))).collect()
}

/// Returns the percentile of the values, or 0 without values.
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((values.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

/// Converts figures to JSON with four digits, since more would be noise.
pub fn json(figures: Figures) -> Value {
    flat(figures).into()
}

/// Converts figures to the JSON of a line.
pub fn flat(figures: Figures) -> Map<String, Value> {
    let rounded = |value: f64| {
        let short = format!("{value:.3e}").parse::<f64>().unwrap_or(value);
        if short == short.trunc() && short.abs() < 1e15 { Value::from(short as i64) } else { Value::from(short) }
    };
    figures.into_iter().map(|(name, value)| (name.to_owned(), rounded(value))).collect()
}

/// Returns the result of a scenario that takes all its figures in each round.
pub fn rounds(rounds: &[Figures]) -> Map<String, Value> {
    let mut figures = Map::new();
    figures.insert("medians".to_owned(), json(medians(rounds)));
    figures.insert("rounds".to_owned(), Value::from(rounds.len()));
    figures
}

/// Returns the line of one scenario.
pub fn line(scenario: &str, figures: Map<String, Value>) -> String {
    let mut line = Map::new();
    line.insert("scenario".to_owned(), scenario.into());
    line.extend(figures);
    Value::Object(line).to_string()
}
