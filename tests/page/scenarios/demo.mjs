// Break it, Now and Calls, at a demo: a dead provider goes into cooldown and recovers, a cut stream is continued, a call is explained.
import { check, run, until } from "./browser.mjs";

const NORTH = "north/llama-3.3-70b-versatile";
const stateOf = (page, target) => page.locator(`[data-target="${target}"]`).getAttribute("data-state");
const rows = (page) => page.locator(".timeline li").allInnerTexts();

async function breakNorth({ page, accessible, picture }) {
  const north = page.getByRole("region", { name: "Provider north" });
  await page.getByRole("link", { name: "Break it" }).click();
  await page.getByRole("button", { name: "Start the traffic" }).click();
  await until(async () => (await rows(page)).some((row) => row.includes(NORTH)), "a call that north answers");
  await north.getByRole("button", { name: "Dead" }).click();
  await until(async () => (await stateOf(page, NORTH)) === "cooling", "north in cooldown");
  check((await page.locator(`[data-target="${NORTH}"]`).innerText()).includes("left"), "the rest of the cooldown");
  const fallback = await until(async () => (await rows(page)).find((row) => row.includes(NORTH) && row.includes("south/")), "a call that falls back");
  check(fallback.includes("200"), "the caller of that call gets an answer");
  await picture("page-break");
  await accessible("Break it");
  await north.getByRole("button", { name: "Healthy" }).click();
  await until(async () => (await stateOf(page, NORTH)) === "live", "north live again");
  await north.getByRole("button", { name: "Cut streams" }).click();
  await until(async () => (await rows(page)).some((row) => row.includes("continued")), "a stream that is continued");
}

async function now({ page, args, accessible, picture }) {
  await page.getByRole("link", { name: "Now", exact: true }).click();
  await page.getByText("IN THIS ORDER", { exact: false }).first().waitFor();
  const requests = page.getByRole("region", { name: "Requests" });
  await until(async () => (await requests.locator("rect").count()) > 0, "bars of calls");
  const chart = requests.getByRole("group");
  const box = await chart.boundingBox();
  await page.mouse.move(box.x + box.width - 4, box.y + box.height / 2);
  await until(async () => /\d+:\d+:\d+.*ok/.test(await chart.innerText()), "the values under the pointer");
  await page.mouse.move(5, 5);
  await until(async () => (await page.locator(".route-row").first().innerText()).match(/[1-9]\d* %/), "the shares of the targets");
  check((await page.getByRole("region", { name: "Configuration" }).innerText()).includes("demo.yaml"), "the file of the configuration");
  await accessible("Now");
  if (args.documents) await page.waitForTimeout(100_000); // the picture for the documentation needs some history
  await picture("page-now");
  await page.setViewportSize({ width: 390, height: 844 });
  await until(() => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no scrolling to the side on a phone");
  await accessible("Now on a phone");
  await page.setViewportSize({ width: 1360, height: 900 });
}

async function calls({ page, accessible, picture }) {
  await page.getByRole("link", { name: "Calls", exact: true }).click();
  await page.getByLabel("target").fill(NORTH);
  await page.getByLabel("model").fill("smart");
  await page.getByRole("button", { name: "Filter" }).click();
  await until(() => page.url().includes("target="), "the filter in the address");
  await page.getByLabel("follow").uncheck();
  const continued = page.locator("tbody tr", { hasText: "continued" }).first();
  await continued.waitFor();
  await accessible("Calls");
  await continued.getByRole("link").click();
  const waterfall = page.getByRole("list", { name: "Where the time went" });
  await waterfall.waitFor();
  const steps = await waterfall.locator("li").allInnerTexts();
  check(steps.length >= 4 && steps[0].includes(NORTH) && steps.at(-1).startsWith("end"), `two attempts and the end: ${steps}`);
  await page.getByRole("button", { name: "Explain again today" }).click();
  await page.getByText("simulated calls").waitFor();
  check(await page.getByRole("caption", { name: "Adjustments" }).or(page.getByText("Adjustments")).count(), "the adjustments");
  await accessible("a call");
  await picture("page-call");
  await page.getByRole("link", { name: "all calls" }).click();
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByLabel("status").selectOption("5xx");
  await page.getByText("No call matches").waitFor();
}

run(async (tools) => {
  await tools.page.goto(tools.args.url);
  await breakNorth(tools);
  await now(tools);
  await calls(tools);
});
