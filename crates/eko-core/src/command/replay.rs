//! The ids of replays: a command that has ended is only answered again under its own id, so that an
//! operator sends it under another one, which follows from its own.

use sha2::{Digest as _, Sha256};

use super::rules;

/// What tells a replay's id, with its number.
const MARK: &str = ":replay-";

/// How much of a long id is kept beside its digest.
const KEPT: usize = 30;

/// The id of the replay of the command with this id.
pub fn replay_id(id: &str) -> String {
    let (stem, nth) =
        numbered(id).and_then(|(stem, nth)| Some((stem, nth.checked_add(1)?))).unwrap_or((id, 1));
    let next = format!("{stem}{MARK}{nth}");
    if rules::ID.fits(&next) { next } else { format!("{}{MARK}{nth}", shortened(stem)) }
}

/// Whether this is the id of a replay of the command with the id `original`.
pub fn is_replay_of(id: &str, original: &str) -> bool {
    let of = |stem: &str| stem == original || stem == shortened(original);
    numbered(id).is_some_and(|(stem, _)| of(stem))
}

/// What comes before the mark, and the number behind it.
fn numbered(id: &str) -> Option<(&str, u32)> {
    let (stem, nth) = id.rsplit_once(MARK)?;
    Some((stem, nth.parse().ok()?))
}

/// A stem that leaves room for mark and number.
fn shortened(stem: &str) -> String {
    let digest = Sha256::digest(stem.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}.{digest}", stem.get(..KEPT).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_replay_follows_from_its_own() {
        assert_eq!(replay_id("ord-7731"), "ord-7731:replay-1");
        assert_eq!(replay_id("ord-7731:replay-1"), "ord-7731:replay-2");
        assert_eq!(replay_id("ord:replay-x"), "ord:replay-x:replay-1");
    }

    #[test]
    fn the_id_of_a_replay_is_one_however_long_its_own() {
        let (one, other) = ("a".repeat(64), format!("{}b", "a".repeat(63)));
        let mut ids = vec![replay_id(&one), replay_id(&other)];
        for _ in 0..20 {
            ids.push(replay_id(&ids[ids.len() - 1]));
        }
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
        assert!(ids.iter().all(|id| rules::ID.fits(id)), "{ids:?}");
    }

    #[test]
    fn a_replay_knows_its_original_also_after_many() {
        for original in ["ord-7731", &"a".repeat(64), &"a".repeat(56)] {
            let mut id = original.to_owned();
            for _ in 0..12 {
                id = replay_id(&id);
                assert!(is_replay_of(&id, original), "{id} of {original}");
                assert!(!is_replay_of(&id, "ord-7732"), "{id}");
            }
            assert!(!is_replay_of(original, original));
        }
        assert!(!is_replay_of("ord-7731:replay-x", "ord-7731"));
    }
}
