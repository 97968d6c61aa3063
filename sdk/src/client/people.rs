//! Logging in, keys, and users.

use reeve_protocol::ApiKeyId;
use reqwest::Method;

use super::{Client, Paging};
use crate::Error;
use crate::api::{
    ApiKey, ApiKeyCreated, LoginRequest, LoginResponse, NewApiKey, NewUser, Page, SetupRequest,
    Ticket, User, UserChange, UserCreated, WhoAmI,
};

impl Client {
    /// Uses a one-time code: sets the password and logs in.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn setup(&self, request: &SetupRequest) -> Result<LoginResponse, Error> {
        self.post(&["api", "auth", "setup"]).json(request)?.fetch().await
    }

    /// Logs in with a password.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn login(&self, request: &LoginRequest) -> Result<LoginResponse, Error> {
        self.post(&["api", "auth", "login"]).json(request)?.fetch().await
    }

    /// Ends the session of this client's token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logout(&self) -> Result<(), Error> {
        self.post(&["api", "auth", "logout"]).repeatable().send().await.map(drop)
    }

    /// Who this client is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn me(&self) -> Result<WhoAmI, Error> {
        self.get(&["api", "auth", "me"]).fetch().await
    }

    /// A ticket for one WebSocket.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ticket(&self) -> Result<Ticket, Error> {
        self.post(&["api", "auth", "ticket"]).repeatable().fetch().await
    }

    /// Makes a key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_key(&self, key: &NewApiKey) -> Result<ApiKeyCreated, Error> {
        self.post(&["api", "auth", "keys"]).json(key)?.fetch().await
    }

    /// Keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn keys(&self, paging: &Paging) -> Result<Page<ApiKey>, Error> {
        self.get(&["api", "auth", "keys"]).page(paging).fetch().await
    }

    /// Ends a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_key(&self, id: ApiKeyId) -> Result<(), Error> {
        let id = id.to_string();
        self.call(Method::DELETE, &["api", "auth", "keys", &id]).send().await.map(drop)
    }

    /// Users.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn users(&self, paging: &Paging) -> Result<Page<User>, Error> {
        self.get(&["api", "users"]).page(paging).fetch().await
    }

    /// Adds a user; the answer has the one-time code to give them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_user(&self, user: &NewUser) -> Result<UserCreated, Error> {
        self.post(&["api", "users"]).json(user)?.fetch().await
    }

    /// Changes a user's role or scope, by name or id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_user(&self, user: &str, change: &UserChange) -> Result<User, Error> {
        self.call(Method::PATCH, &["api", "users", user]).json(change)?.repeatable().fetch().await
    }

    /// Removes a user, by name or id, with their sessions and keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_user(&self, user: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "users", user]).send().await.map(drop)
    }
}
