// The openai package for Node with the Responses API: an answer, a stream that its helper assembles, and an error.
// Prints one JSON object. The upstream is that of openai_responses.py.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0 });
const tool = { type: "function", name: "weather", strict: true, parameters: { type: "object", properties: {} } };
const answer = await client.responses.create({ model: "m", input: "hello" });
const stream = client.responses.stream({ model: "m", input: "call the tool", tools: [tool] });
let events = 0;
for await (const event of stream) events += event.sequence_number === events ? 1 : -1000;
const final = await stream.finalResponse();
let refused = "";
try {
  await client.responses.create({ model: "m", input: [] });
} catch (error) {
  refused = `${error.status} ${error.param}`;
}
console.log(JSON.stringify({ text: answer.output_text, kinds: final.output.map((item) => item.type), events, refused }));
