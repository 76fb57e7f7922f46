"""Drives the released `progressdb` client, unmodified, against a running server.

Usage: python_client.py BASE_URL BACKEND_KEY ADMIN_KEY
"""

import sys

from progressdb import ApiError, ProgressDB

BASE_URL, BACKEND_KEY, ADMIN_KEY = sys.argv[1:4]
DENIED = "access denied: not thread owner or participant"
USER1_SIGNATURE = "1c0d39859b33b032c6a315790e70f92dc8738c4575026f89b0d5325e2e34920b"


def check(have, want):
    """Fails with both values."""
    if have != want:
        raise AssertionError(f"have {have!r}, want {want!r}")


def check_error(call, status, text):
    """The call must raise the client's error with this status and text."""
    try:
        result = call()
    except ApiError as error:
        check((error.status_code, str(error)), (status, text))
        check(error.response["error"], text)
    else:
        raise AssertionError(f"have {result!r}, want {status} {text!r}")


def check_health(db):
    check(db.healthz(), {"status": "ok"})
    ready = db.readyz()
    check((ready["status"], type(ready["version"])), ("ok", str))


def check_threads(db, user):
    created = db.create_thread({"title": "General"}, user)
    check(list(created), ["key"])
    key = created["key"]
    thread = db.get_thread(key, user)["thread"]
    check((thread["key"], thread["title"], thread["author"]), (key, "General", user))
    check(thread["created_ts"], int(key.split(":")[1]))

    check(db.update_thread(key, {"title": "Renamed"}, user), {"key": key})
    check(db.get_thread(key, user)["thread"]["title"], "Renamed")

    others = [db.create_thread({"title": f"T{n}"}, user)["key"] for n in range(4)]
    page = db.list_threads({"limit": 2}, user)
    check([thread["key"] for thread in page["threads"]], [others[3], others[2]])
    check(page["pagination"], {
        "before_anchor": others[3], "after_anchor": others[2], "has_before": False, "has_after": True,
        "count": 2, "total": 5,
    })
    page = db.list_threads({"limit": 2, "after": page["pagination"]["after_anchor"], "before": None, "anchor": None}, user)
    check([thread["key"] for thread in page["threads"]], [others[1], others[0]])
    everything = {"limit": None, "before": None, "after": None, "anchor": None, "sort_by": None}
    check(db.list_threads(everything, user), db.list_threads(None, user))
    check(db.list_threads(None, user)["pagination"]["total"], 5)

    check(db.delete_thread(key, user), {"key": key})
    check([thread["key"] for thread in db.list_threads(None, user)["threads"]], others[::-1])
    check_error(lambda: db.get_thread(key, user), 404, "thread not found")
    check_error(lambda: db.delete_thread(key, user), 404, "thread not found")


def check_messages(db, user):
    thread = db.create_thread({"title": "Messages"}, user)["key"]
    bodies = [
        {"text": "hi"}, "grüße, 日本, \U0001f600, \u0000, \\ \" /", 0, False, "", [], {}, 2**63, -1.5e-7,
        {"deep": [{"a": [None, True, 1.0]}]}, ["x" * 10_000],
    ]
    keys = [db.create_thread_message(thread, {"body": body, "extra": "ignored"}, user)["key"] for body in bodies]
    page = db.list_thread_messages(thread, {"limit": 1000}, user)
    check(page["thread"], thread)
    check([message["key"] for message in page["messages"]], keys)
    check([message["body"] for message in page["messages"]], bodies)
    check({message["author"] for message in page["messages"]}, {user})
    for key, body in zip(keys, bodies):
        check(db.get_thread_message(thread, key, user)["message"]["body"], body)
        provisional = key.rsplit(":", 1)[0]
        check(db.get_thread_message(thread, provisional, user)["message"]["key"], key)

    page = db.list_thread_messages(thread, {"limit": 3, "before": keys[4]}, user)
    check([message["key"] for message in page["messages"]], keys[1:4])
    page = db.list_thread_messages(thread, {"limit": 1, "anchor": keys[4]}, user)
    check([message["key"] for message in page["messages"]], keys[3:6])

    check(db.update_thread_message(thread, keys[0], {"body": "edited"}, user), {"key": keys[0]})
    check(db.get_thread_message(thread, keys[0], user)["message"]["body"], "edited")
    check(db.delete_thread_message(thread, keys[0], user), {"key": keys[0]})
    check_error(lambda: db.get_thread_message(thread, keys[0], user), 404, "message not found")
    check(db.list_thread_messages(thread, None, user)["pagination"]["total"], len(keys) - 1)


def check_errors(db, user):
    thread = db.create_thread({"title": "Mine"}, user)["key"]
    message = db.create_thread_message(thread, {"body": "mine"}, user)["key"]
    other = db.create_thread({"title": "Other"}, user)["key"]
    for call in (
        lambda: db.get_thread(thread, "stranger"),
        lambda: db.update_thread(thread, {"title": "taken"}, "stranger"),
        lambda: db.delete_thread(thread, "stranger"),
        lambda: db.list_thread_messages(thread, None, "stranger"),
        lambda: db.create_thread_message(thread, {"body": 1}, "stranger"),
        lambda: db.get_thread_message(thread, message, "stranger"),
        lambda: db.update_thread_message(thread, message, {"body": 1}, "stranger"),
        lambda: db.delete_thread_message(thread, message, "stranger"),
        lambda: db.get_thread("t:1763700000000000000", user),
    ):
        check_error(call, 403, DENIED)
    check_error(lambda: db.get_thread_message(other, message, user), 404, "message not found in thread")
    check_error(lambda: db.create_thread({"title": ""}, user), 400, "validation errors: title: cannot be empty")
    check_error(lambda: db.create_thread({}, user), 400, "validation errors: title: cannot be empty")
    check_error(lambda: db.create_thread_message(thread, {"body": None}, user), 400, "validation errors: body: cannot be empty")
    check_error(lambda: db.list_threads({"sort_by": "invalid"}, user), 400,
                "invalid pagination: sort_by must be 'created_ts' or 'updated_ts'")
    check_error(lambda: db.list_threads({"before": thread, "after": thread}, user), 400,
                "invalid pagination: only one of anchor, before, after can be specified")
    check_error(lambda: db.list_threads({"limit": 0}, user), 400, "invalid pagination: limit must be at least 1")
    check_error(lambda: db.list_threads({"limit": 1001}, user), 400, "invalid pagination: limit cannot exceed 1000")
    check_error(lambda: db.list_threads(None, None), 400, "author required for backend requests")
    check_error(lambda: db.list_threads(None, "x" * 129), 400, "author too long")
    check_error(lambda: db.sign_user(""), 400, "invalid user ID: user ID cannot be empty")
    try:
        db.get_thread("not a key", user)
    except ApiError as error:
        check((error.status_code, str(error).startswith("invalid thread key format: ")), (400, True))
    else:
        raise AssertionError("a malformed key was taken")
    check(db.get_thread_message(thread, message, user)["message"]["body"], "mine")


def check_keys():
    check_error(lambda: client("nobody").list_threads(None, "user1"), 401, "unauthorized")
    check_error(lambda: client(None).list_threads(None, "user1"), 401, "unauthorized")
    check_error(lambda: client(ADMIN_KEY).sign_user("user1"), 403, "forbidden")
    check_error(lambda: client(ADMIN_KEY).list_threads(None, "user1"), 403, "forbidden")
    check(client(None).healthz(), {"status": "ok"})
    check(client(BACKEND_KEY).sign_user("user1"), {"userId": "user1", "signature": USER1_SIGNATURE})
    check(client(BACKEND_KEY).sign_user("a:b/ç 日本")["userId"], "a:b/ç 日本")


def check_user_ids(db):
    for user in ("with:colon", "with/slash", "with space", "café", "x" * 128, "user@example.com"):
        key = db.create_thread({"title": "mine"}, user)["key"]
        check([thread["key"] for thread in db.list_threads(None, user)["threads"]], [key])
        db.create_thread_message(key, {"body": user}, user)
        check(db.list_thread_messages(key, None, user)["messages"][0]["body"], user)


def client(key):
    return ProgressDB({"baseUrl": BASE_URL + "/", "apiKey": key})


def main():
    db = client(BACKEND_KEY)
    check_health(db)
    check_threads(db, "user1")
    check_messages(db, "user2")
    check_errors(db, "user3")
    check_keys()
    check_user_ids(db)
    print("all checks passed")


main()
