//! Does a lone node start on an HSM token that is not the one of its database?

use std::path::PathBuf;

use crate::house::House;

const NEXT: &str = "put the HSM token of this database back";

#[test]
fn a_lone_node_does_not_start_on_an_hsm_token_with_other_keys_under_the_same_labels() {
    let house = House::new();
    let stranger = House::without_signer();
    assert_eq!(house.serve().stop(), 0);

    let own = house.scratch("own");
    std::fs::rename(hsm(&house), &own).unwrap();
    std::fs::rename(hsm(&stranger), hsm(&house)).unwrap();
    // It has every key that it should have.
    assert_eq!(house.verb(&["check-hsm"]).code, 0);
    let swapped = house.serve_in_vain();
    swapped.refused(4, "the HSM token holds another key \"m2key-", NEXT);
    assert!(
        swapped.err.contains("swapped or initialised anew"),
        "{swapped:?}"
    );

    std::fs::rename(hsm(&house), hsm(&stranger)).unwrap();
    std::fs::rename(&own, hsm(&house)).unwrap();
    assert_eq!(house.serve().stop(), 0);
}

/// What the HSM token lies in, with its PIN.
fn hsm(house: &House) -> PathBuf {
    house.dir().join("hsm")
}
