//! A name may have several addresses: each is tried, none waits long for the one before it.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

/// How long an address is tried alone before the next one is tried beside it: longer than one that
/// answers takes for all handshakes, and short, since a session makes several connections, each of
/// which meets a silent address first.
const HEAD_START: Duration = Duration::from_secs(1);

/// What a try came to that did not succeed.
pub enum Failed<E> {
    /// There was no address.
    None,
    /// None answered, and the last one that said why said this.
    Said(E),
    /// None said anything in time.
    Silent,
}

/// The first address that answers. They are tried in order: the next one as soon as the one before it
/// has failed or has been silent for a moment, beside which that one may still answer.
///
/// # Errors
/// Why none did.
pub async fn first_that_answers<A, T, E, F>(
    addresses: Vec<A>,
    time: Duration,
    mut connect: impl FnMut(A) -> F,
) -> Result<T, Failed<E>>
where
    F: Future<Output = Result<T, E>>,
{
    if addresses.is_empty() {
        return Err(Failed::None);
    }
    let mut untried = addresses.into_iter();
    let mut asked = FuturesUnordered::new();
    let mut said = None;
    let answered = timeout(time, async {
        loop {
            match untried.next() {
                Some(address) => asked.push(connect(address)),
                None if asked.is_empty() => return None,
                None => {}
            }
            let head_start = if untried.len() == 0 { time } else { HEAD_START };
            tokio::select! {
                Some(answer) = asked.next() => match answer {
                    Ok(connected) => return Some(connected),
                    Err(error) => said = Some(error),
                },
                () = sleep(head_start) => {}
            }
        }
    });
    match answered.await {
        Ok(Some(connected)) => Ok(connected),
        Ok(None) | Err(_) => Err(said.map_or(Failed::Silent, Failed::Said)),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "how long it took")]
    async fn one_that_is_silent_holds_up_those_behind_it_for_a_moment() {
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
        let time = Duration::from_secs(10);
        assert!(matches!(first_that_answers(vec![1, 2, 3, 4, 5], time, connect).await, Ok(4)));
        // The second one was quick to refuse.
        let took = began.elapsed();
        assert!(took >= HEAD_START * 2 && took < time / 2, "{took:?}");
        assert_eq!(tried, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn one_that_is_slow_may_still_be_the_first_to_answer() {
        let connect = async |address: u32| match address {
            1 => {
                sleep(HEAD_START * 3 / 2).await;
                Ok(1)
            }
            2 => pending::<Result<u32, u32>>().await,
            address => Err(address),
        };
        let time = Duration::from_secs(10);
        assert!(matches!(first_that_answers(vec![1, 2, 3], time, connect).await, Ok(1)));
    }

    #[tokio::test]
    async fn why_none_answered_is_told_where_one_said_it() {
        let connect = async |address: u32| match address {
            1 => pending::<Result<(), u32>>().await,
            address => Err(address),
        };
        let time = HEAD_START * 3 / 2;
        for addresses in [vec![1, 2], vec![2, 1], vec![3, 2]] {
            let failed = first_that_answers(addresses, time, connect).await;
            assert!(matches!(failed, Err(Failed::Said(2))));
        }
        assert!(matches!(first_that_answers(vec![1], time, connect).await, Err(Failed::Silent)));
        assert!(matches!(first_that_answers(vec![], time, connect).await, Err(Failed::None)));
    }
}
