//! Tokens: kept by hash, found by hash, revoked for good.

use gradwatch_store::{Scope, StoreError, Token, TokenHash, TokenId};

use crate::fixture::AnyStore;

fn hash(number: u8) -> TokenHash {
    let mut hash = [0xA5; 32];
    hash[31] = number;
    hash
}

fn token(number: u8) -> Token {
    Token {
        token_id: TokenId(uuid::Uuid::from_u64_pair(9, number.into())),
        name: format!("token {number} \u{1f980}"),
        project: (number % 2 == 1).then(|| "vision".to_owned()),
        scopes: Scope::ALL.into_iter().take(number.into()).collect(),
        created_at_us: 1_000 - i64::from(number),
        expires_at_us: number.is_multiple_of(3).then_some(5_000),
        revoked_at_us: None,
    }
}

pub(crate) async fn tokens_come_back_as_they_were(store: AnyStore) {
    assert!(store.tokens().await.unwrap().is_empty());
    for number in 0..=3 {
        store.create_token(&token(number), &hash(number)).await.unwrap();
    }
    // Oldest first.
    assert_eq!(store.tokens().await.unwrap(), [token(3), token(2), token(1), token(0)]);
    for number in 0..=3 {
        assert_eq!(store.token_by_hash(&hash(number)).await.unwrap(), Some(token(number)));
    }
    assert_eq!(store.token_by_hash(&hash(4)).await.unwrap(), None);
}

pub(crate) async fn a_hash_and_an_id_are_taken_once(store: AnyStore) {
    store.create_token(&token(1), &hash(1)).await.unwrap();
    for (token, hash) in [(token(2), hash(1)), (token(1), hash(2))] {
        let again = store.create_token(&token, &hash).await;
        assert!(matches!(again, Err(StoreError::UniqueViolation(_))), "{again:?}");
    }
    assert_eq!(store.tokens().await.unwrap(), [token(1)]);
}

pub(crate) async fn a_token_is_revoked_once(store: AnyStore) {
    for number in 1..=2 {
        store.create_token(&token(number), &hash(number)).await.unwrap();
    }
    assert!(store.revoke_token(token(1).token_id, 2_000).await.unwrap());
    assert!(store.revoke_token(token(1).token_id, 3_000).await.unwrap(), "known, and revoked before");
    assert!(!store.revoke_token(token(3).token_id, 2_000).await.unwrap(), "unknown");
    let revoked = Token { revoked_at_us: Some(2_000), ..token(1) };
    assert_eq!(store.token_by_hash(&hash(1)).await.unwrap(), Some(revoked));
    assert_eq!(store.token_by_hash(&hash(2)).await.unwrap(), Some(token(2)));
}
