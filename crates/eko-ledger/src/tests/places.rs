//! Where in a PostgreSQL database a ledger is, and what it leaves to others.

use super::*;

/// The server and a new database in it; `None` where there is no server to test with.
#[expect(clippy::disallowed_methods, reason = "only the environment knows the server")]
async fn database(test: &str) -> Option<(String, String)> {
    let Ok(server) = std::env::var("EKO_TEST_POSTGRES_URL") else {
        eprintln!("SKIPPED on PostgreSQL, EKO_TEST_POSTGRES_URL is not set: {test}");
        return None;
    };
    let name = format!("t_{:032x}", fnv(test));
    execute(&server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    execute(&server, &format!("CREATE DATABASE {name}")).await;
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    Some((server, url.into()))
}

async fn answer(url: &str, sql: &str) -> String {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    let row = client.query_one(sql, &[]).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    row.get(0)
}

async fn open(url: &str, epoch: u32) -> Ledger {
    let settings = Settings::read(url).unwrap();
    Ledger::open(&settings, &opening(epoch, [epoch.to_le_bytes()[0]; 32])).await.unwrap()
}

/// Makes what the version before had made.
async fn of_schema_4(url: &str) {
    for migration in [
        include_str!("../../migrations/postgres/0001_commands.sql"),
        include_str!("../../migrations/postgres/0002_hot.sql"),
        include_str!("../../migrations/postgres/0003_moments.sql"),
        include_str!("../../migrations/postgres/0004_memory.sql"),
        "CREATE TABLE schema_version (applied BIGINT NOT NULL);
         INSERT INTO schema_version VALUES (4);
         INSERT INTO meta (digest_key, ledger_id) VALUES ('\\x0102', 'theold');
         INSERT INTO commits VALUES (7, 3);
         INSERT INTO commands (id, kind, tid, digest, first_received, history, parked,
            interruptions, unsettled) VALUES ('old', 'refund', '7', 'd', 0,
            '{\"first_received\":0,\"entries\":[]}', 0, 0, FALSE)",
    ] {
        execute(url, migration).await;
    }
}

/// Which schemas have tables of ours.
const TABLES: &str = "SELECT coalesce(string_agg(DISTINCT schemaname || '.' || tablename, ' '), '')
    FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_ledger_of_the_version_before_moves_to_its_own_schema() {
    let Some((_, url)) = database("moves").await else { return };
    of_schema_4(&url).await;
    let seen = Ledger::look(&Settings::read(&url).unwrap()).await.unwrap().meta;
    assert_eq!((seen.id.as_str(), seen.schema, seen.commits), ("theold", 4, 3), "where it was");
    let ledger = open(&url, 1).await;
    assert_eq!((ledger.identity().id.as_str(), ledger.identity().is_new), ("theold", false));
    assert_eq!(ledger.commits().await.unwrap(), 3);
    assert_eq!(word(&claim(&ledger, refund("old", "7", 1)).await), "due");
    assert_eq!(
        answer(&url, TABLES).await,
        "eko_worker.audit eko_worker.commands eko_worker.commits eko_worker.meta eko_worker.pauses \
         eko_worker.schema_version eko_worker.slots public.schema_version"
    );
    let older = "SELECT applied::text FROM public.schema_version";
    assert_eq!(answer(&url, older).await, "7", "an older program refuses it");
    assert_eq!(open(&url, 2).await.identity().id, "theold");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_two_workers_that_start_at_once_move_a_ledger_once() {
    let Some((_, url)) = database("moves_once").await else { return };
    of_schema_4(&url).await;
    let (one, two) = tokio::join!(open(&url, 1), open(&url, 2));
    assert_eq!([&one.identity().id, &two.identity().id], ["theold", "theold"]);
    assert_eq!(word(&claim(&one, refund("old", "7", 1)).await), "due");
    assert_eq!(word(&claim(&two, refund("old", "7", 1)).await), "busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_another_programs_tables_of_the_same_names_are_left_alone() {
    let Some((_, url)) = database("shared_database").await else { return };
    let other = "CREATE TABLE schema_version (version TEXT); CREATE TABLE meta (key TEXT);
        CREATE TABLE commands (name TEXT); INSERT INTO schema_version VALUES ('theirs')";
    execute(&url, other).await;
    let ledger = open(&url, 1).await;
    assert_eq!(word(&claim(&ledger, refund("a", "1", 0)).await), "fresh");
    assert_eq!(answer(&url, "SELECT version FROM public.schema_version").await, "theirs");
    assert_eq!(answer(&url, "SELECT count(*)::text FROM eko_worker.commands").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_user_who_may_make_no_schema_is_told_what_an_administrator_does() {
    let Some((server, url)) = database("no_schema").await else { return };
    let role = "DO $$ BEGIN CREATE ROLE eko_test_limited LOGIN; EXCEPTION
        WHEN duplicate_object OR unique_violation THEN END $$";
    execute(&server, role).await;
    let limited = url.replace("eko@", "eko_test_limited@");
    let error = refused(&Settings::read(&limited).unwrap()).await;
    assert!(error.contains("CREATE SCHEMA eko_worker AUTHORIZATION"), "{error}");
    execute(&url, "CREATE SCHEMA eko_worker AUTHORIZATION eko_test_limited").await;
    let ledger = open(&limited, 1).await;
    assert_eq!(word(&claim(&ledger, refund("a", "1", 0)).await), "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_copy_gets_an_id_of_its_own_and_keeps_it() {
    let Some((server, url)) = database("copied").await else { return };
    let first = open(&url, 1).await;
    claim(&first, refund("a", "1", 0)).await;
    let id = first.identity().id.clone();
    let Some((_, copy)) = database("copy").await else { return };
    let names = [&url, &copy].map(|url| url.rsplit_once('/').unwrap().1.to_owned());
    let [from, to] = &names;
    execute(&server, &format!("DROP DATABASE {to}")).await;
    drop(first);
    let copied =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'");
    execute(&server, &copied).await;
    execute(&server, &format!("CREATE DATABASE {to} TEMPLATE {from}")).await;
    let other = open(&copy, 2).await;
    assert_ne!(other.identity().id, id);
    assert!(!other.identity().is_new);
    assert_eq!(open(&copy, 3).await.identity().id, other.identity().id);
    assert_eq!(open(&url, 4).await.identity().id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_database_that_becomes_another_one_is_not_written() {
    let Some((_, url)) = database("becomes_another").await else { return };
    let ledger = open(&url, 1).await;
    claim(&ledger, refund("a", "1", 0)).await;
    execute(&url, "UPDATE eko_worker.meta SET ledger_id = 'another'").await;
    assert!(matches!(ledger.claim(refund("b", "2", 0), 7).await, Err(Error::Unfit(_))));
    assert_eq!(answer(&url, "SELECT count(*)::text FROM eko_worker.commands").await, "1");
    let id = &ledger.identity().id;
    execute(&url, &format!("UPDATE eko_worker.meta SET ledger_id = '{id}'")).await;
    assert_eq!(word(&claim(&ledger, refund("b", "2", 0)).await), "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_first_of_a_names_addresses_that_answers_is_used() {
    let Some(Rig::Postgres(url)) = Rig::postgres("addresses").await else { return };
    let mut url = url::Url::parse(url.expose_secret()).unwrap();
    let port = url.port().unwrap_or(5432);
    // Documentation addresses (RFC 5737): nobody answers there.
    let query = format!("{}&hostaddr=192.0.2.1,127.0.0.1", url.query().unwrap());
    url.set_query(Some(&query));
    let one = format!("@{}:{port}", url.host_str().unwrap());
    let two = format!("@db.example.com:{port},db.example.com:{port}");
    let settings = Settings::read(&url.as_str().replace(&one, &two)).unwrap();
    let Settings::Postgres(_) = &settings else { panic!("for PostgreSQL") };
    let ledger = Ledger::open(&settings, &opening(1, KEY)).await.unwrap();
    assert_eq!(word(&claim(&ledger, request("a", 0)).await), "fresh");
}
