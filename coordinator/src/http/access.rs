//! Who may call which route: one table. A route that is not in it answers nobody.

use http::Method;
use reeve_sdk::api::Role;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody. The handler must not need a principal.
    Public,
    /// An agent: the handler authenticates it by its own handshake.
    Agent,
    /// A browser that shows a ticket: the handler takes it.
    Ticket,
    /// Somebody logged in with at least this role.
    Role(Role),
}

use Access::{Agent, Public, Role as Needs, Ticket};
use Role::{Admin, Approver, Operator, Viewer};

/// Every route with its method.
pub const ACCESS: &[(Method, &str, Access)] = &[
    // http
    (Method::GET, "/healthz", Public),
    (Method::GET, "/readyz", Public),
    (Method::GET, "/metrics", Needs(Viewer)),
    (Method::GET, "/install.sh", Public),
    (Method::GET, "/dist/{name}", Public),
    (Method::GET, "/api/openapi.json", Public),
    (Method::GET, "/api/info", Public),
    (Method::GET, "/api/status", Needs(Viewer)),
    // users
    (Method::POST, "/api/auth/setup", Public),
    (Method::POST, "/api/auth/login", Public),
    (Method::POST, "/api/auth/logout", Needs(Viewer)),
    (Method::GET, "/api/auth/me", Needs(Viewer)),
    (Method::GET, "/api/auth/keys", Needs(Viewer)),
    (Method::POST, "/api/auth/keys", Needs(Viewer)),
    (Method::DELETE, "/api/auth/keys/{id}", Needs(Viewer)),
    (Method::POST, "/api/auth/ticket", Needs(Viewer)),
    (Method::GET, "/api/users", Needs(Admin)),
    (Method::POST, "/api/users", Needs(Admin)),
    (Method::PATCH, "/api/users/{user}", Needs(Admin)),
    (Method::DELETE, "/api/users/{user}", Needs(Admin)),
    // audit
    (Method::GET, "/api/audit", Needs(Admin)),
    (Method::GET, "/api/audit/verify", Needs(Admin)),
    // machines
    (Method::GET, "/api/machines", Needs(Viewer)),
    (Method::GET, "/api/machines/{machine}", Needs(Viewer)),
    (Method::GET, "/api/machines/{machine}/metrics", Needs(Viewer)),
    (Method::PATCH, "/api/machines/{machine}", Needs(Admin)),
    (Method::DELETE, "/api/machines/{machine}", Needs(Admin)),
    (Method::POST, "/api/machines/{machine}/revoke", Needs(Admin)),
    (Method::GET, "/api/enrolment-tokens", Needs(Admin)),
    (Method::POST, "/api/enrolment-tokens", Needs(Admin)),
    (Method::DELETE, "/api/enrolment-tokens/{id}", Needs(Admin)),
    (Method::POST, "/api/clients/register", Agent),
    (Method::GET, "/api/clients/list", Needs(Viewer)),
    (Method::GET, "/ws/client", Agent),
    // operations
    (Method::POST, "/api/jobs", Needs(Operator)),
    (Method::GET, "/api/jobs", Needs(Viewer)),
    (Method::GET, "/api/jobs/{id}", Needs(Viewer)),
    (Method::GET, "/api/jobs/{id}/operations", Needs(Viewer)),
    (Method::POST, "/api/jobs/{id}/follow", Needs(Viewer)),
    (Method::POST, "/api/jobs/{id}/cancel", Needs(Operator)),
    (Method::GET, "/api/jobs/{id}/events", Needs(Viewer)),
    (Method::GET, "/api/operations/{id}", Needs(Viewer)),
    (Method::GET, "/api/operations/{id}/output", Needs(Viewer)),
    (Method::GET, "/api/operations/{id}/events", Needs(Viewer)),
    (Method::POST, "/api/operations/{id}/input", Needs(Operator)),
    (Method::POST, "/api/operations/{id}/signal", Needs(Operator)),
    (Method::POST, "/api/operations/{id}/cancel", Needs(Operator)),
    (Method::POST, "/api/operations/{id}/explain", Needs(Operator)),
    (Method::POST, "/api/operations/{id}/resize", Needs(Operator)),
    (Method::GET, "/ws/operations/{id}", Ticket),
    (Method::GET, "/api/sessions", Needs(Viewer)),
    (Method::GET, "/api/sessions/{id}", Needs(Viewer)),
    (Method::GET, "/api/sessions/{id}/recording", Needs(Viewer)),
    (Method::POST, "/api/sessions/{id}/input", Needs(Operator)),
    // uploads
    (Method::POST, "/api/uploads", Needs(Operator)),
    (Method::GET, "/api/uploads", Needs(Operator)),
    (Method::GET, "/api/uploads/{id}", Needs(Operator)),
    (Method::PATCH, "/api/uploads/{id}", Needs(Operator)),
    (Method::DELETE, "/api/uploads/{id}", Needs(Operator)),
    // vault
    (Method::GET, "/api/vault", Needs(Viewer)),
    (Method::POST, "/api/vault/init", Needs(Admin)),
    (Method::POST, "/api/vault/unlock", Needs(Admin)),
    (Method::POST, "/api/vault/lock", Needs(Admin)),
    (Method::GET, "/api/vault/entries", Needs(Admin)),
    (Method::POST, "/api/vault/entries", Needs(Admin)),
    (Method::DELETE, "/api/vault/entries/{name}", Needs(Admin)),
    // models
    (Method::GET, "/api/models", Needs(Viewer)),
    (Method::PUT, "/api/models/{name}", Needs(Admin)),
    (Method::DELETE, "/api/models/{name}", Needs(Admin)),
    (Method::POST, "/api/models/{name}/test", Needs(Admin)),
    (Method::PUT, "/api/models/roles/{role}", Needs(Admin)),
    (Method::GET, "/api/usage", Needs(Viewer)),
    // approvals
    (Method::GET, "/api/approvals", Needs(Viewer)),
    (Method::GET, "/api/approvals/{id}", Needs(Viewer)),
    (Method::POST, "/api/approvals/{id}/approve", Needs(Approver)),
    (Method::POST, "/api/approvals/{id}/reject", Needs(Approver)),
    (Method::POST, "/api/approvals/{id}/withdraw", Needs(Operator)),
    (Method::GET, "/api/policy", Needs(Viewer)),
    // assistant
    (Method::POST, "/api/tasks", Needs(Operator)),
    (Method::GET, "/api/tasks", Needs(Viewer)),
    (Method::GET, "/api/tasks/list", Needs(Viewer)),
    (Method::GET, "/api/tasks/status/{id}", Needs(Viewer)),
    (Method::GET, "/api/tasks/{id}", Needs(Viewer)),
    (Method::GET, "/api/tasks/{id}/events", Needs(Viewer)),
    (Method::GET, "/api/tasks/{id}/calls", Needs(Viewer)),
    (Method::POST, "/api/tasks/{id}/approve", Needs(Approver)),
    (Method::POST, "/api/tasks/{id}/reject", Needs(Approver)),
    (Method::POST, "/api/tasks/{id}/cancel", Needs(Operator)),
    (Method::POST, "/api/tasks/{id}/answer", Needs(Operator)),
    // events
    (Method::GET, "/ws/frontend", Ticket),
];

/// Who may call a route, by its template.
#[must_use]
pub fn find_access(method: &Method, template: &str) -> Option<Access> {
    // HEAD is answered by the handler of GET.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ACCESS
        .iter()
        .find(|(each, path, _)| each == method && *path == template)
        .map(|(_, _, access)| *access)
}
