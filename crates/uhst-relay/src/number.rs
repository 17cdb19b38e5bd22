//! Reading and writing of numbers as in JavaScript.

use std::fmt::Write;

/// Appends the text of `JSON.stringify(number)`: the shortest digits that parse to the same number, or `null` if it is
/// not finite (ECMA-262, Number::toString).
pub(super) fn write_number(number: f64, out: &mut String) {
    if !number.is_finite() {
        return out.push_str("null");
    }
    if number == 0.0 {
        return out.push('0'); // JavaScript writes -0 as 0, too
    }
    if number < 0.0 {
        out.push('-');
    }
    // Rust's `e` notation has the same shortest digits: "1.2345e22".
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // The match is on the number of digits before the decimal point.
    match exponent + 1 {
        whole @ 1..=21 => {
            let whole = whole as usize;
            if digits.len() <= whole {
                out.push_str(&digits);
                out.extend(std::iter::repeat_n('0', whole - digits.len()));
            } else {
                out.push_str(&digits[..whole]);
                out.push('.');
                out.push_str(&digits[whole..]);
            }
        }
        zeros @ -5..=0 => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', -zeros as usize));
            out.push_str(&digits);
        }
        _ => {
            out.push_str(&digits[..1]);
            if digits.len() > 1 {
                out.push('.');
                out.push_str(&digits[1..]);
            }
            // Writing to a string cannot fail.
            let _ = write!(out, "e{exponent:+}");
        }
    }
}

/// Parses like JavaScript's `parseInt(text)`: leading white space, a sign, `0x`, then as many digits as there are.
/// Returns NaN if there are none.
pub(super) fn parse_int(text: &str) -> f64 {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let digits = hex.chars().map_while(|c| c.to_digit(16));
        let value = digits.fold(None, |value, digit| Some(value.unwrap_or(0.0) * 16.0 + f64::from(digit)));
        return sign * value.unwrap_or(f64::NAN);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).map_or(text, |end| &text[..end]);
    sign * digits.parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: f64) -> String {
        let mut out = String::new();
        write_number(number, &mut out);
        out
    }

    #[test]
    fn numbers_are_written_as_javascript_does() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-5.0, "-5"),
            (1e3, "1000"),
            (0.1, "0.1"),
            (123.456, "123.456"),
            (1e20, "100000000000000000000"),
            (1.5e20, "150000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1.25e-6, "0.00000125"),
            (1e-7, "1e-7"),
            (1.25e-7, "1.25e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "null"),
            (f64::NAN, "null"),
            (9_007_199_254_740_993.0, "9007199254740992"),
        ] {
            assert_eq!(text(number), expected);
        }
    }

    #[test]
    fn parse_int_reads_what_javascript_reads() {
        for (input, expected) in [
            ("12", "12"),
            ("12.7", "12"),
            ("12abc", "12"),
            ("abc", "null"),
            ("", "null"),
            ("-", "null"),
            ("-5", "-5"),
            ("+5", "5"),
            ("-0", "0"),
            (" \t\n42", "42"),
            ("1e3", "1"),
            ("0x1F", "31"),
            ("0x", "null"),
            ("12345678901234567890123", "1.2345678901234568e+22"),
            ("1790000000000", "1790000000000"),
        ] {
            assert_eq!(text(parse_int(input)), expected, "parseInt({input:?})");
        }
        assert_eq!(text(parse_int(&"9".repeat(400))), "null");
    }
}
