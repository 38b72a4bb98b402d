//! How does one digit catch a slip of the finger?
//!
//! Damm's quasigroup of order 10 (H. M. Damm, 2004): every single wrong digit and every swap of two
//! neighbours changes the check digit.

const QUASIGROUP: [[u8; 10]; 10] = [
    [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
    [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
    [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
    [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
    [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
    [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
    [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
    [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
    [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
    [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
];

/// The digit that makes `digits` followed by it valid. Each item is 0..=9.
pub fn check_digit(digits: impl IntoIterator<Item = u8>) -> u8 {
    digits.into_iter().fold(0, |row, digit| {
        QUASIGROUP[row as usize][(digit % 10) as usize]
    })
}

/// True when the last digit is the check digit of those before it.
pub fn is_valid(digits: impl IntoIterator<Item = u8>) -> bool {
    check_digit(digits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_holds() {
        assert_eq!(check_digit([5, 7, 2]), 4);
        assert!(is_valid([5, 7, 2, 4]));
    }

    #[test]
    fn every_swap_of_neighbours_is_caught() {
        for a in 0..10 {
            for b in (0..10).filter(|b| *b != a) {
                let check = check_digit([a, b]);
                assert!(!is_valid([b, a, check]));
            }
        }
    }
}
