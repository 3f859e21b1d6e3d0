// Sends spans by OpenTelemetry's SDK for Node.js: node send.mjs URL json|proto gzip|none COUNT
import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [url, encoding, compression, count] = process.argv.slice(2);
const Exporter = encoding === "json" ? JsonExporter : ProtoExporter;
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": "node-client" }),
  spanProcessors: [new BatchSpanProcessor(new Exporter({ url, compression }), { maxQueueSize: 10000 })],
});
const tracer = provider.getTracer("tests.node", "1.0");
for (let number = 1; number <= Number(count); number++) {
  const span = tracer.startSpan("chat m", { kind: SpanKind.CLIENT });
  span.setAttributes({
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.output_tokens": number,
    "gen_ai.response.finish_reasons": ["stop"],
    ratio: 0.5,
    wörter: "grüße",
  });
  span.addEvent("half way", { number });
  span.setStatus({ code: SpanStatusCode.ERROR, message: "no" });
  span.end();
}
await provider.forceFlush();
await provider.shutdown();
