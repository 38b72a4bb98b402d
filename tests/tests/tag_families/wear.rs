//! Is every programming of a tag counted, wherever a cut comes, and nothing that was not changed?

use super::*;

const PAGES: u8 = 45;

/// Of the page or, where nobody knows which share a place, of all frames together.
fn most_programmed(tag: &TagModel) -> u32 {
    match tag {
        TagModel::Ntag213(chip) => (0..PAGES).map(|page| chip.writes(page)).max().unwrap(),
        TagModel::Ntag424(chip) => chip.writes(),
        TagModel::Foreign(_) => 0,
    }
}

fn uid(tag: &TagModel) -> Vec<u8> {
    match tag {
        TagModel::Ntag213(chip) => chip.uid(),
        TagModel::Ntag424(chip) => chip.uid().to_vec(),
        TagModel::Foreign(_) => Vec::new(),
    }
}

fn counted(agent: &Agent, tag: &TagModel) -> u32 {
    agent.counted(&uid(tag)).map_or(0, |counted| counted.cycles)
}

fn own_tags() -> [(Agent, TagModel, u32); 2] {
    let (agent21x, ntag21x) = ntag21x::own_tag_with(7);
    let (agent424, ntag424) = ntag424::own_tag_with(7);
    [(agent21x, ntag21x, 2), (agent424, ntag424, 1)]
}

#[test]
fn a_link_costs_what_the_family_says_and_the_same_link_again_nothing() {
    for (agent, tag, per_link) in own_tags() {
        // From here on it is the page with the length that is programmed most.
        let (tag, _) = done(&agent, tag, &show(6));
        let (before, on_tag) = (counted(&agent, &tag), most_programmed(&tag));
        let (tag, _) = done(&agent, tag, &show(8));
        assert_eq!(counted(&agent, &tag), before + per_link);
        assert_eq!(most_programmed(&tag), on_tag + per_link);
        assert_eq!(agent.counted(&uid(&tag)).unwrap().per_link, per_link);
        let (tag, again) = done(&agent.restarted(), tag, &show(8));
        assert_eq!(again.writes, 0);
        assert_eq!(counted(&agent, &tag), before + per_link);
        assert_eq!(most_programmed(&tag), on_tag + per_link);
    }
}

#[test]
fn a_cut_anywhere_counts_no_cycle_too_few_and_at_most_a_visit_too_many() {
    for (agent, tag, per_link) in own_tags() {
        let (before, on_tag) = (counted(&agent, &tag), most_programmed(&tag));
        for errand in [show(8), BLANK] {
            cut_everywhere(&agent, &tag, &errand, |agent, tag, cut| {
                let is = counted(&agent, &tag) - before;
                let programmed = most_programmed(&tag) - on_tag;
                assert!(
                    (programmed..=per_link).contains(&is),
                    "{cut:?}: {is} of {programmed}"
                );
            });
        }
    }
}

#[test]
fn a_personalisation_cut_anywhere_counts_no_cycle_of_a_page_too_few() {
    let personalise = Errand::Personalise(Box::default());
    let agent = Agent::default();
    let (fresh, _) = done(&agent, VirtualTag::new(1).into(), &show(7));
    cut_everywhere(&agent, &fresh, &personalise, |agent, tag, cut| {
        assert!(counted(&agent, &tag) >= most_programmed(&tag), "{cut:?}");
        let (tag, _) = done(&agent, tag, &personalise);
        assert!(counted(&agent, &tag) >= most_programmed(&tag), "{cut:?}");
    });
}

#[test]
fn a_full_disk_keeps_no_stale_link_on_the_tag_and_loses_no_cycle() {
    for (agent, tag, per_link) in own_tags() {
        let before = counted(&agent, &tag);
        agent.fill_disk_after(0);
        let (tag, _) = done(&agent, tag, &show(8));
        let (tag, _) = done(&agent, tag, &show(9));
        assert_eq!(seen(&tag), Some(link(9)));
        assert_eq!(counted(&agent, &tag), before);
        agent.fill_disk_after(5);
        let (tag, _) = done(&agent, tag, &show(7));
        assert_eq!(counted(&agent, &tag), before + 3 * per_link);
    }
}
