//! Does `--help` still say what was reviewed?

use authority::cli::Arguments;

#[test]
fn the_help_of_every_verb_is_the_one_in_help_txt() {
    let mut all = String::new();
    collect(&mut Arguments::command(), "", &mut all);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/front/help.txt");
    if std::env::var_os("M2KEY_UPDATE").is_some() {
        std::fs::write(path, &all).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        all == reviewed,
        "changed; look at it, then: M2KEY_UPDATE=1 cargo test -p authority --test front"
    );
}

fn collect(command: &mut clap::Command, parents: &str, all: &mut String) {
    let name = format!("{parents}{} ", command.get_name());
    *all += &format!("$ {name}--help\n{}\n", command.render_help());
    for verb in command.get_subcommands_mut() {
        if verb.get_name() != "help" {
            collect(verb, &name, all);
        }
    }
}
