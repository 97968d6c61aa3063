//! Measured values in 16 bits: 10 bits of mantissa and 6 of exponent, no sign. One part in a thousand is more
//! than a chart shows, and halves what ten thousand machines take up on the disk.

/// Stands for "not known".
pub const ABSENT: u16 = u16::MAX;

/// Bits of the mantissa.
const MANTISSA: u32 = 10;

/// Values are kept in thousandths, so that a load of 0.05 does not become 0.
const SCALE: f64 = 1000.0;

/// The largest number there is a code for.
const LARGEST: u64 = u64::MAX >> 1;

/// A value as its code. What is negative or no number is 0.
#[must_use]
pub fn encode(value: f64) -> u16 {
    let scaled = (value * SCALE).round();
    // The cast saturates, and makes 0 of what is no number.
    let number = (scaled as u64).min(LARGEST);
    let bits = u64::BITS - number.leading_zeros();
    if bits <= MANTISSA + 1 {
        // Small ones are exact: exponents 0 and 1.
        return u16::try_from(number).unwrap_or(ABSENT - 1);
    }
    let shift = bits - MANTISSA - 1;
    // Rounded; a carry makes the next exponent by itself.
    let rounded = (number + (1 << (shift - 1))) >> shift;
    let code = (u64::from(shift) << MANTISSA) + rounded;
    u16::try_from(code).unwrap_or(ABSENT - 1).min(ABSENT - 1)
}

/// The value of a code.
#[must_use]
pub fn decode(code: u16) -> Option<f64> {
    if code == ABSENT {
        return None;
    }
    let code = u64::from(code);
    let exponent = code >> MANTISSA;
    if exponent <= 1 {
        return Some(code as f64 / SCALE);
    }
    let shift = exponent - 1;
    let mantissa = (code & ((1 << MANTISSA) - 1)) | (1 << MANTISSA);
    Some((mantissa as f64) * (shift as f64).exp2() / SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_values_are_exact_to_the_thousandth() {
        for thousandths in 0..=2047_u32 {
            let value = f64::from(thousandths) / 1000.0;
            let back = decode(encode(value)).expect("a value");
            assert!((back - value).abs() < 1e-9, "{value} became {back}");
        }
    }

    #[test]
    fn nonsense_is_zero_or_the_largest_and_never_absent() {
        for value in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(decode(encode(value)), Some(0.0));
        }
        assert!(decode(encode(f64::INFINITY)).is_some_and(|largest| largest > 9e15));
        assert_eq!(decode(ABSENT), None);
    }

    #[test]
    fn codes_are_in_the_order_of_their_values() {
        let values: Vec<f64> = (0..=u16::MAX - 1).filter_map(decode).collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
    }

    proptest! {
        #[test]
        fn what_comes_back_is_off_by_less_than_a_thousandth(value in 0.001..1e15_f64) {
            let back = decode(encode(value)).expect("a value");
            prop_assert!((back - value).abs() <= value / 1000.0 + 0.0005, "{value} became {back}");
        }
    }
}
