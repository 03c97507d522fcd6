// The playground at a demo: explained while typing, sent, streamed, stopped, compared, token by token, and as a program.
import { check, run, until } from "./browser.mjs";

const plan = (page, target) => page.getByRole("region", { name: `Request to ${target}` });
const answer = (page, model) => page.getByRole("region", { name: `Answer of ${model}` });
const phase = (page, model) => answer(page, model).getAttribute("data-phase");
const NORTH = "north/llama-3.3-70b-versatile";

async function explain({ page, accessible, picture }) {
  await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("smart");
  await page.getByRole("textbox", { name: "Message 1" }).fill("Why is the sky blue?");
  for (const [name, value] of [["top_k", "5"], ["min_p", "0.1"], ["temperature", "1.9"]]) {
    await page.getByRole("combobox", { name: "Add a parameter" }).selectOption(name);
    await page.getByRole("textbox", { name, exact: true }).fill(value);
  }
  const north = plan(page, NORTH);
  await until(async () => (await north.innerText()).includes("sky blue"), "the prompt in the request to north");
  await until(async () => /top_k\s*drop/.test(await north.innerText()), "the dropped parameter");
  await until(async () => /temperature\s*clamp\s*1.9/.test(await plan(page, "south/mistral-small-latest").innerText()), "the clamped parameter");
  check((await north.locator(".l-remove").allInnerTexts()).some((line) => line.includes("top_k")), "the removed line is marked");
  await accessible("Explain");
  await picture("page-playground");
  await page.getByRole("textbox", { name: "temperature", exact: true }).fill('"hot"');
  await page.getByText("This call would be refused with 400").waitFor();
  await page.getByRole("button", { name: "Remove temperature" }).click();
  for (const [door, field] of [["Messages", "system"], ["Responses", "instructions"], ["Chat completions", "system"]]) {
    await page.getByRole("combobox", { name: "API" }).selectOption(door);
    await page.getByRole("textbox", { name: "System" }).fill(`Be brief in ${door}.`);
    await until(async () => (await north.innerText()).includes(`Be brief in ${door}.`), `${field} of ${door} in the request to north`);
  }
}

const PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const TOOL = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]';

/** Check that images and tools are written in the form of each API. */
async function attach({ page }) {
  await page.getByLabel("Add an image to message 1").setInputFiles({ name: "dot.png", mimeType: "image/png", buffer: Buffer.from(PICTURE, "base64") });
  await page.getByText("Tools", { exact: true }).click();
  await page.getByRole("textbox", { name: "Tools as JSON" }).fill("[{");
  await page.getByText("The tools are not valid JSON").waitFor();
  await page.getByRole("textbox", { name: "Tools as JSON" }).fill(TOOL);
  const south = plan(page, "south/mistral-small-latest");
  for (const door of ["Messages", "Responses", "Chat completions"]) {
    await page.getByRole("combobox", { name: "API" }).selectOption(door);
    await until(async () => {
      const text = await south.innerText();
      return text.includes(`data:image/png;base64,${PICTURE.slice(0, 20)}`) && text.includes('"weather"') && text.includes(`Be brief in Chat`);
    }, `the image and the tool of ${door} in the request to south`);
  }
  await page.getByRole("button", { name: "Remove image 1" }).click();
  await page.getByRole("textbox", { name: "Tools as JSON" }).fill("");
}

async function send({ page, accessible }) {
  await page.getByRole("textbox", { name: "max_tokens", exact: true }).fill("40");
  for (const door of ["Messages", "Responses", "Chat completions"]) {
    await page.getByRole("combobox", { name: "API" }).selectOption(door);
    await page.getByRole("button", { name: "Send" }).click();
    await until(async () => (await phase(page, "smart")) === "done", `an answer of ${door}`);
    const text = await answer(page, "smart").innerText();
    check(text.split(" ").length > 40 && text.includes(NORTH) && text.includes("cost"), `text and receipt of ${door}: ${text}`);
  }
  await page.getByRole("checkbox", { name: "stream" }).uncheck();
  await page.getByRole("button", { name: "Send" }).click();
  await until(async () => (await phase(page, "smart")) === "done", "an answer without a stream");
  await page.getByRole("checkbox", { name: "stream" }).check();
  await page.getByRole("textbox", { name: "max_tokens", exact: true }).fill("");
  await page.getByRole("button", { name: "Send" }).click();
  await until(async () => (await phase(page, "smart")) === "streaming", "a stream");
  await page.getByRole("button", { name: "Stop" }).click();
  await until(async () => (await phase(page, "smart")) === "stopped", "a stopped stream");
  await page.getByRole("textbox", { name: "max_tokens", exact: true }).fill("12");
  await page.getByRole("combobox", { name: "Compare with" }).selectOption("local");
  await page.getByRole("button", { name: "Send" }).click();
  for (const model of ["smart", "local"]) await until(async () => (await phase(page, model)) === "done", `the answer of ${model}`);
  check((await answer(page, "local").innerText()).includes("local/smollm2"), "the target of the second model");
  await accessible("Answer");
}

async function tokens({ page, accessible }) {
  await page.getByRole("tab", { name: "Tokens" }).click();
  await page.getByRole("combobox", { name: "Model" }).last().selectOption("local");
  await page.getByRole("button", { name: "Show probabilities" }).click();
  const first = page.locator(".token").first();
  await first.waitFor();
  const token = await first.locator("code").innerText();
  await first.click();
  const written = page.getByLabel("Answer so far");
  await until(async () => (await written.innerText()).trim() === token.replaceAll("␣", " ").trim(), `the token ${token} in the answer`);
  await accessible("Tokens");
}

async function programs({ page, accessible }) {
  await page.getByRole("tab", { name: "Code" }).click();
  const shown = async (name) => { await page.getByRole("tab", { name }).click(); return page.getByLabel(`The call in ${name.toLowerCase()}`).innerText(); };
  const command = await shown("curl");
  check(command.startsWith("curl http://127.0.0.1:"), "the callers' address in the command");
  const python = await shown("Python");
  check(python.includes("extra_body={"), "parameters that the package does not know");
  const node = await shown("Node");
  await accessible("Code");
  return { command, python, node };
}

/** Check the tool calls that the page reads from the events and answers of each API, its drafts, and the order of likely tokens. */
async function reads({ page }) {
  const found = await page.evaluate(async () => {
    const [{ read }, { bodyOf, draftOf, likeliest }] = await Promise.all([import("/page/streams.js"), import("/page/playground.js")]);
    const tools = [
      { choices: [{ delta: { tool_calls: [{ function: { name: "weather", arguments: "{}" } }] } }] },
      { choices: [{ message: { tool_calls: [{ function: { name: "weather", arguments: "{}" } }] } }] },
      { type: "content_block_start", content_block: { type: "tool_use", name: "weather", input: {} } },
      { type: "message", content: [{ type: "tool_use", name: "weather", input: {} }] },
      { type: "response.output_item.done", item: { type: "function_call", name: "weather", arguments: "{}" } },
      { object: "response", output: [{ type: "function_call", name: "weather", arguments: "{}" }] },
    ].map((value) => read(value).tools.join(""));
    const bodies = [
      ["/v1/chat/completions", { model: "m", messages: [{ role: "system", content: "S" }, { role: "user", content: "Hi" }], max_tokens: 5, stream: true }],
      ["/v1/messages", { model: "m", system: "S", messages: [{ role: "user", content: "Hi" }], max_tokens: 5 }],
      ["/v1/responses", { model: "m", instructions: "S", input: [{ role: "user", content: "Hi" }], temperature: 1 }],
    ];
    const drafts = bodies.map(([door, body]) => [bodyOf(draftOf(door, body), {}).body, body].map((each) => JSON.stringify(Object.entries(each).sort())));
    const other = draftOf("/v1/chat/completions", { model: "m", messages: [{ role: "tool", content: "1", tool_call_id: "a" }] });
    return { drafts, other, tools, tokens: likeliest({ a: 0.6, 7: 0.3, b: 0.1 }).map(([token]) => token).join("") };
  });
  check(found.tools.every((text) => text.includes("weather")), `the tool call of each API: ${JSON.stringify(found.tools)}`);
  check(found.drafts.every(([one, next]) => one === next) && found.other === null, `the same request from its draft: ${JSON.stringify(found)}`);
  check(found.tokens === "a7b", `the likeliest token first: ${found.tokens}`);
}

/** Check that a model is never compared with itself. */
async function swap({ page }) {
  await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("local");
  check((await page.getByRole("combobox", { name: "Compare with" }).inputValue()) === "", "no second model after it became the first");
  await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("smart");
}

run(async (tools) => {
  await tools.page.goto(`${tools.args.url}/#/playground`);
  await explain(tools);
  await attach(tools);
  await send(tools);
  await swap(tools);
  await reads(tools);
  await tokens(tools);
  return programs(tools);
});
