#![allow(clippy::unwrap_used)]
use super::*;

const SAMPLE: &str = include_str!("../../../config/theme.toml");

fn refusal(text: &str) -> AgentError {
    check(text).unwrap_err()
}

#[test]
fn the_sample_theme_is_sound_and_names_every_key() {
    let (name, logo, colours) = check(SAMPLE).unwrap();
    assert_eq!(name, "Corner Bakery");
    assert_eq!(logo.as_deref(), Some("logo.png"));
    assert_ne!(colours, Colours::default());
    for key in ["name", "logo", "paper", "ink", "quiet", "accent"] {
        assert!(SAMPLE.contains(&format!("\n{key} = ")), "{key}");
    }
}

#[test]
fn the_plain_look_passes_its_own_check() {
    Colours::default().check().unwrap();
}

#[test]
fn colours_that_cannot_be_read_are_refused_with_one_that_can() {
    for (colours, says) in [
        ("ink = \"#aaaaaa\"", "make ink darker"),
        ("quiet = \"#999999\"", "make quiet darker"),
        // 4.3 to 1: large type would do with it, and a note is none.
        ("quiet = \"#777777\"", "make quiet darker"),
        ("accent = \"#ffd400\"", "make accent darker"),
        ("paper = \"#101010\"", "make ink lighter"),
    ] {
        let error = refusal(&format!("name = \"A\"\n[colours]\n{colours}\n"));
        assert!(error.hint().contains(says), "{says} in {}", error.hint());
        assert!(error.to_string().contains("less than 4.5"), "{error}");
    }
    // What is proposed is taken.
    let error = refusal("name = \"A\"\n[colours]\nink = \"#aaaaaa\"\n");
    let proposed = error.hint().split("example ").nth(1).unwrap().to_owned();
    check(&format!("name = \"A\"\n[colours]\n{proposed}\n")).unwrap();
}

#[test]
fn scripts_links_and_unknown_keys_are_refused() {
    for (text, word) in [
        ("name = \"<script>alert(1)</script>\"", "name:"),
        ("name = \"a\\u0000b\"", "name:"),
        ("name = \"\"", "name:"),
        ("name = \"123456789012345678901234567890123\"", "name:"),
        ("name = \"A\"\nscript = \"x.js\"", "script"),
        ("name = \"A\"\n[colours]\nborder = \"#000000\"", "border"),
        ("name = \"A\"\n[colours]\nink = \"red\"", "not a colour"),
        (
            "name = \"A\"\n[colours]\nink = \"url(https://x/y)\"",
            "not a colour",
        ),
        (
            "name = \"A\"\n[colours]\nink = \"#000000;}\"",
            "not a colour",
        ),
        (
            "name = \"A\"\nlogo = \"https://x.example/logo.png\"",
            "logo:",
        ),
        ("name = \"A\"\nlogo = \"../logo.png\"", "logo:"),
        ("name = \"A\"\nlogo = \"/etc/logo.png\"", "logo:"),
        ("name = \"A\"\nlogo = \"data:image/png\"", "logo:"),
        ("name = \"A\"\nlogo = \"..\"", "logo:"),
        ("logo = \"logo.png\"", "name"),
    ] {
        let error = refusal(text);
        assert!(error.to_string().contains(word), "{word} in {error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn a_theme_is_loaded_with_the_logo_beside_it_or_leaves_the_plain_look_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("theme.toml");
    let look = || Look::load(Language::French, Some(&file));
    assert!(look().trouble.unwrap().contains("theme_file"));
    fs::write(&file, SAMPLE).unwrap();
    assert!(look().trouble.unwrap().contains("logo.png"));
    fs::write(dir.path().join("logo.png"), "<svg onload=\"x\"/>").unwrap();
    let refused = look();
    assert!(refused.trouble.as_ref().unwrap().contains("not a PNG"));
    assert_eq!(refused.theme, Theme::default());
    assert_eq!(refused.language, Language::French);
    fs::write(dir.path().join("logo.png"), logo::tests::png(300, 100)).unwrap();
    let loaded = look();
    assert_eq!(loaded.trouble, None);
    assert_eq!(loaded.theme.name.as_deref(), Some("Corner Bakery"));
    assert!(loaded.theme.logo.is_some());
    fs::write(&file, vec![b'#'; THEME_MAX as usize + 1]).unwrap();
    assert!(look().trouble.unwrap().contains("larger than any theme"));
}
