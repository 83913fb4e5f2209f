// Asks a server with gRPC's own client for Node: ask.js ADDRESS PROTO. Prints what it was told, as JSON.
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const path = require("path");

const [address, proto] = process.argv.slice(2);
const definition = loader.loadSync(proto, { includeDirs: [path.dirname(proto)], keepCase: true, longs: Number });
const { GRPCInferenceService } = grpc.loadPackageDefinition(definition).inference;
const client = new GRPCInferenceService(address, grpc.credentials.createInsecure());

const floats = (...values) => Buffer.from(new Float32Array(values).buffer);
const request = (model, id, size = 2) => ({
  model_name: model,
  id,
  inputs: [{ name: "INPUT0", datatype: "FP32", shape: [1, size] }],
  raw_input_contents: [size === 2 ? floats(id, 2) : Buffer.alloc(4 * size, 1)],
});
const infer = (asked, options = {}) =>
  new Promise((resolve) => client.ModelInfer(asked, new grpc.Metadata(), options, (error, answer) => resolve(error || answer)));

async function main() {
  const many = await Promise.all(Array.from({ length: 200 }, (_, n) => infer(request("echo", String(n)))));
  const wrong = await infer(request("nö%", "x"));
  const late = await infer(request("echo", "y"), { deadline: Date.now() - 1000 });
  const large = await infer(request("echo", "z", 1_000_000));
  const stream = client.ModelStreamInfer();
  const streamed = [];
  stream.on("data", (told) => streamed.push(told.infer_response.id));
  const status = new Promise((resolve) => stream.on("status", resolve));
  for (let n = 0; n < 50; n++) stream.write(request("echo", String(n)));
  stream.end();
  console.log(
    JSON.stringify({
      ids: many.map((answer) => answer.id),
      values: many.map((answer) => answer.raw_output_contents[0].readFloatLE(0)),
      wrong: [wrong.code, wrong.details],
      late: late.code,
      large: large.raw_output_contents[0].length,
      status: (await status).code,
      streamed,
    }),
  );
  client.close();
}

main();
