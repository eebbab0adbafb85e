// Every method of gorsejs, unmodified, against the server whose URL is the first argument.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { Gorse, GorseException } = createRequire(import.meta.url)("gorsejs");
const called = new Set();
const client = new Proxy(new Gorse({ endpoint: process.argv[2], secret: "any key" }), {
  get(target, name) {
    called.add(name);
    return target[name].bind(target);
  },
});
const Timestamp = "2022-08-07T00:26:46Z";
const ids = (scores) => scores.map((each) => each.Id);
const refused = (promise, code, says) =>
  assert.rejects(promise, (error) => {
    assert(error instanceof GorseException);
    assert.equal(error.code, code);
    assert.match(error.message, says);
    return true;
  });

// Users
const user = { UserId: "100", Labels: ["a", "b", "c"], Comment: "comment" };
assert.equal(await client.insertUser(user), 1);
assert.deepEqual(await client.getUser("100"), user);
assert.equal(await client.updateUser("100", { UserId: "100", Comment: "new" }), 1);
assert.deepEqual(await client.getUser("100"), { ...user, Comment: "new" });
assert.equal(await client.insertUsers([{ UserId: "101" }, { UserId: "102" }]), 2);
const users = await client.getUsers({ n: 2 });
assert.deepEqual(users.Users.map((each) => each.UserId), ["100", "101"]);
const more = await client.getUsers({ n: 1, Cursor: users.Cursor });
assert.equal(more.Users[0].UserId, "102");
assert.equal(await client.deleteUser("100"), 1);
await refused(client.getUser("100"), 404, /user "100" not found/);

// Items
const item = {
  ItemId: "100", IsHidden: true, Labels: ["a", "b", "c"], Categories: ["films", "d"],
  Timestamp, Comment: "comment",
};
assert.equal(await client.upsertItem(item), 1);
assert.deepEqual(await client.getItem("100"), item);
assert.equal(await client.insertItemCategory("100", "e"), 1);
assert.equal(await client.deleteItemCategory("100", "d"), 1);
assert.equal(await client.updateItem("100", { IsHidden: false, Timestamp: new Date(0) }), 1);
assert.deepEqual(await client.getItem("100"), {
  ...item, IsHidden: false, Categories: ["films", "e"], Timestamp: "1970-01-01T00:00:00Z",
});
assert.equal(await client.upsertItems([{ ...item, ItemId: "101", IsHidden: false }]), 1);
const items = await client.getItems({ n: 30 });
const rest = await client.getItems({ n: 30, Cursor: items.Cursor });
assert.deepEqual([items.Items.length, rest.Items.length, rest.Cursor], [30, 12, ""]);
assert.equal(await client.deleteItem("100"), 1);
await refused(client.getItem("100"), 404, /item "100" not found/);

// Feedback
const feedback = ["i1", "i2", "i3"].map((ItemId) => ({
  FeedbackType: "like", UserId: "bob", ItemId, Timestamp,
}));
const shown = (each) => ({ ...each, Value: 1, Updated: Timestamp, Comment: "" });
assert.equal(await client.insertFeedbacks(feedback), 3);
const one = { type: "like", userId: "bob", itemId: "i1" };
assert.deepEqual(await client.getFeedback(one), shown(feedback[0]));
assert.equal(await client.upsertFeedbacks([{ ...feedback[0], FeedbackType: "read" }]), 1);
assert.equal((await client.getFeedbacks("like", { n: 2 })).Feedback.length, 2);
assert.equal((await client.getFeedbacks(undefined, { n: 5 })).Feedback.length, 5);
assert.equal((await client.getUserFeedback("bob")).length, 4);
assert.deepEqual(await client.getUserFeedbackByType("bob", "like"), feedback.map(shown));
assert.equal((await client.getItemFeedbackByType("i1", "read")).length, 1);
assert((await client.getItemFeedback("i1")).some((each) => each.UserId === "bob"));
assert.deepEqual(await client.deleteFeedback({ ...one, type: "read" }), { RowAffected: 1 });
await refused(client.getFeedback({ ...one, type: "read" }), 404, /no feedback "read"/);

// Lists
const best = await client.getRecommend({ userId: "bob", cursorOptions: { n: 4 } });
assert.equal(new Set([...best, "i1", "i2", "i3"]).size, 7);
const back = { writeBackType: "seen", writeBackDelay: "0s" };
const page = { userId: "bob", cursorOptions: { n: 2, offset: 2 } };
assert.deepEqual(await client.getRecommend({ ...page, ...back }), best.slice(2));
assert(!(await client.getRecommend({ userId: "bob" })).includes(best[2]));
const films = await client.getRecommend({ userId: "bob", category: "films" });
assert((await client.getItem(films[0])).Categories.includes("films"));
assert.equal((await client.getSessionRecommend(feedback)).length, 10);
const session = { category: "books", cursorOptions: { n: 3 } };
assert.equal((await client.getSessionRecommend(feedback, session)).length, 3);
assert.deepEqual(ids(await client.getLatest({ cursorOptions: { n: 1 } })), ["101"]);
assert.deepEqual(ids(await client.getLatest({ category: "d" })), ["101"]);
assert.equal((await client.getPopular({})).length, 10);
assert.equal((await client.getPopular({ category: "books", cursorOptions: { n: 3 } })).length, 3);
assert.equal((await client.getItemNeighbors({ itemId: "i1", category: "books" })).length, 10);
const near = await client.getUserNeighbors({ userId: "u1", cursorOptions: { n: 3 } });
assert.equal(ids(near).length, 3);

const methods = Object.getOwnPropertyNames(Gorse.prototype).filter((n) => n !== "constructor");
assert.deepEqual(methods.filter((name) => !called.has(name)), [], "methods that were not called");
console.log(`${methods.length} methods work`);
