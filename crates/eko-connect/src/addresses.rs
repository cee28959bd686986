//! A name may have several addresses: each is tried, with a share of the time.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// What a try came to that did not succeed.
pub enum Failed<E> {
    /// There was no address.
    None,
    /// The last one said this.
    Said(E),
    /// The last one said nothing in its share of the time.
    Silent,
}

/// The first address that answers. One that is silent has an equal share of the time that is left,
/// so that the ones behind it are tried, too.
///
/// # Errors
/// What the last one tried came to.
#[expect(clippy::disallowed_methods, reason = "how much time is left")]
pub async fn first_that_answers<A, T, E, F>(
    addresses: Vec<A>,
    time: Duration,
    mut connect: impl FnMut(A) -> F,
) -> Result<T, Failed<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let until = Instant::now() + time;
    let mut last = Failed::None;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let share = until.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        last = match timeout(share, connect(address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => Failed::Said(error),
            Err(_) => Failed::Silent,
        };
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "how long it took")]
    async fn one_that_is_silent_leaves_time_for_those_behind_it() {
        let began = Instant::now();
        let mut tried = Vec::new();
        let connect = |address: u32| {
            tried.push(address);
            async move {
                match address {
                    1 | 3 => pending().await,
                    2 => Err("refused"),
                    address => Ok(address),
                }
            }
        };
        let time = Duration::from_millis(300);
        assert!(matches!(first_that_answers(vec![1, 2, 3, 4, 5], time, connect).await, Ok(4)));
        // A fifth of all, then a third of what is left, since the second was quick.
        let expected = time / 5 + time * 4 / 5 / 3;
        assert!(began.elapsed() >= expected, "{:?}", began.elapsed());
        assert_eq!(tried, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn the_last_one_says_why_none_answered() {
        let connect = async |address: u32| match address {
            1 => pending::<Result<(), u32>>().await,
            address => Err(address),
        };
        let short = Duration::from_millis(100);
        let failed = first_that_answers(vec![1, 2], short, connect).await;
        assert!(matches!(failed, Err(Failed::Said(2))));
        assert!(matches!(
            first_that_answers(vec![2, 1], short, connect).await,
            Err(Failed::Silent)
        ));
        assert!(matches!(first_that_answers(vec![], short, connect).await, Err(Failed::None)));
    }
}
