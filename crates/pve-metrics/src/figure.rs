//! Numbers as records and answers have them: up to 15 significant digits, whole ones without decimals.

use serde_json::Value;

/// Beyond this not every whole number is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A figure of a record; `U` for what is unknown or no number.
pub(crate) fn text(figure: Option<f64>) -> String {
    let Some(figure) = figure.filter(|figure| figure.is_finite()) else {
        return "U".to_owned();
    };
    rounded(figure).to_string()
}

/// A number of an answer; `None` for what is no number.
pub fn json(figure: f64) -> Option<Value> {
    if !figure.is_finite() {
        return None;
    }
    let rounded = rounded(figure);
    if rounded.fract() == 0.0 && rounded.abs() < EXACT {
        // Whole and in range, as just checked.
        #[allow(clippy::cast_possible_truncation)]
        return Some((rounded as i64).into());
    }
    Some(rounded.into())
}

/// The double nearest to the figure's first 15 significant digits, so that sums and quotients show no noise.
fn rounded(figure: f64) -> f64 {
    if figure.fract() == 0.0 {
        return figure;
    }
    format!("{figure:.14e}").parse().unwrap_or(figure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_have_fifteen_digits_and_no_exponent() {
        for (figure, expected) in [
            (Some(0.0), "0"),
            (Some(0.125), "0.125"),
            (Some(0.1 + 0.2), "0.3"),
            (Some(16_777_216_000.0), "16777216000"),
            (Some(1e18), "1000000000000000000"),
            (Some(0.000_000_1), "0.0000001"),
            (Some(350.0 / 3.0), "116.666666666667"),
            (Some(f64::NAN), "U"),
            (None, "U"),
        ] {
            assert_eq!(text(figure), expected);
        }
        assert_eq!(super::json(100.0), Some(json!(100)));
        assert_eq!(super::json(350.0 / 3.0), Some(json!(116.666_666_666_667)));
        assert_eq!(super::json(f64::INFINITY), None);
    }
}
