// An OpenID Connect provider on loopback, with the log-in and consent pages that come with the package.
//
//   node oidc-provider.js REDIRECT_URI
//
// Prints its issuer once it listens. Any name with any password is a user, whose groups are "team" and NAME.

import { createServer } from "node:http";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import Provider from "oidc-provider";

const [redirectUri] = process.argv.slice(2);

function key(type, options, alg) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg, kid: randomUUID() };
}

function client(id, alg, more = {}) {
  return {
    client_id: id,
    client_secret: `secret of ${id}`,
    redirect_uris: [redirectUri],
    response_types: ["code"],
    grant_types: ["authorization_code"],
    id_token_signed_response_alg: alg,
    ...more,
  };
}

const configuration = {
  clients: [
    client("by-rsa", "RS256"),
    client("by-curve", "ES256", { token_endpoint_auth_method: "client_secret_post" }),
  ],
  jwks: { keys: [key("rsa", { modulusLength: 2048 }, "RS256"), key("ec", { namedCurve: "P-256" }, "ES256")] },
  cookies: { keys: [randomUUID()] },
  claims: { email: ["email"], profile: ["given_name", "family_name", "preferred_username"], groups: ["groups"] },
  async findAccount(_, sub) {
    const claims = {
      sub,
      email: `${sub}@id.example`,
      given_name: sub,
      family_name: "Tester",
      preferred_username: sub,
      groups: ["team", sub],
    };
    return { accountId: sub, claims: async () => claims };
  },
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on("request", new Provider(issuer, configuration).callback());
  console.log(issuer);
});
