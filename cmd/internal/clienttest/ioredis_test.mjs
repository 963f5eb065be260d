// A checkout with ioredis: node test.mjs <host:port> <stock key> <item> <auto-pipelining>
import { Redis } from "ioredis";

const [address, key, item, auto] = process.argv.slice(2);
const [host, port] = [address.slice(0, address.lastIndexOf(":")), Number(address.slice(address.lastIndexOf(":") + 1))];
const clients = Array.from({ length: 8 }, (_, i) => new Redis({
  host, port, connectionName: `ioredis-${i}`, enableAutoPipelining: auto === "true", maxRetriesPerRequest: 0, retryStrategy: null,
}));
const redis = clients[0];
const problems = [];
const check = (what, got, want) => {
  if (JSON.stringify(got) !== JSON.stringify(want)) problems.push(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
};
const failure = async (p) => p.then(() => "no error", (e) => e.message);
const fields = (flat) => Object.fromEntries(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));

check("ping", await redis.ping(), "PONG");
check("name", await redis.client("GETNAME"), "ioredis-0");
check("get", await redis.get(key), "500");
check("get of nothing", await redis.get(key + "-none"), null);
check("mget", await redis.mget(key, key + "-none"), ["500", null]);
check("no number", await failure(redis.call("DECRBY", key, "x")), "ERR value is not an integer or out of range");

// Holds.
const hold = "io-" + key;
const cart = ["clients", hold, "TTL", "60000", "LINE", item, "3"];
check("reserve", fields(await redis.call("XF.RESERVE", ...cart)).status, "granted");
check("reserve again", fields(await redis.call("XF.RESERVE", ...cart)).replayed, 1);
check("seen", await redis.get(key), "497");
check("release", fields(await redis.call("XF.RELEASE", "clients", hold)).status, "released");
check("too many", fields(await redis.call("XF.RESERVE", "clients", hold + "2", "TTL", "60000", "LINE", item, "501")).status, "sold_out");
check("no quantity", (await failure(redis.call("XF.RESERVE", "clients", hold + "3", "TTL", "60000", "LINE", item, "0"))).split(" ")[0], "XFINVALID");

// The legacy loop, one by one and in pipelines.
let sold = 0, refused = 0;
const settle = async (client, left) => {
  if (left >= 0) { sold++; return; }
  refused++;
  await client.incr(key);
};
await Promise.all(clients.map(async (client, i) => {
  for (let n = 0; n < 20; n++) {
    if (i % 2 === 0) {
      await settle(client, await client.decr(key));
      continue;
    }
    const pipeline = client.pipeline();
    for (let k = 0; k < 10; k++) pipeline.decr(key);
    for (const [error, left] of await pipeline.exec()) {
      if (error) problems.push(error.message);
      else await settle(client, left);
    }
  }
}));
await Promise.all(clients.map((client) => client.quit()));
console.log(JSON.stringify({ sold, refused, problems }));
