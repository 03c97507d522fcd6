// The Vercel AI SDK assembles the stream of each model. Prints one JSON object.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { jsonSchema, streamText, tool } from "ai";

const gateway = createOpenAICompatible({
  name: "gateway", baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY, includeUsage: true,
});
const answers = [];
for (const { model, prompt, tools } of JSON.parse(process.env.CALLS)) {
  const own = Object.fromEntries((tools ?? []).map(({ function: { name, parameters } }) => [name, tool({ inputSchema: jsonSchema(parameters) })]));
  const answer = { text: "", reasoning: "", calls: [], finish: null, usage: null };
  const stream = streamText({ model: gateway(model), prompt, tools: tools && own, maxRetries: 0, onError: () => {} });
  for await (const part of stream.fullStream) {
    if (part.type === "text-delta") answer.text += part.text;
    else if (part.type === "reasoning-delta") answer.reasoning += part.text;
    else if (part.type === "tool-call") answer.calls.push([part.toolName, part.input]);
    else if (part.type === "error") answer.error = String(part.error);
    else if (part.type === "finish") {
      answer.finish = part.finishReason;
      answer.usage = [part.totalUsage.inputTokens ?? null, part.totalUsage.outputTokens ?? null];
    }
  }
  answers.push(answer);
}
console.log(JSON.stringify({ answers }));
