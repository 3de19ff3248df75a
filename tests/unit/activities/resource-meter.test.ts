import { describe, expect, it } from 'vitest';
import { createResourceMeter } from '../../../activities/resource-meter.ts';

describe('the meter of a process', () => {
  it('divides what stages use at the same time evenly, and charges no more than the process used', () => {
    let micros = 0;
    const meter = createResourceMeter({ cpuMicros: () => micros, residentMib: () => 100 });
    micros += 5_000_000; // nobody ran
    const a = meter.begin();
    micros += 1_000_000;
    const b = meter.begin();
    micros += 4_000_000;
    expect(a.take().cpuSeconds).toBe(3);
    expect(a.take().cpuSeconds).toBe(0);
    micros += 2_000_000;
    a.end();
    micros += 1_000_000;
    expect(b.take().cpuSeconds).toBe(2 + 1 + 1);
    expect(a.take().cpuSeconds).toBe(1);
    b.end();
  });

  it('takes the peak of the process, and of its children beside it', () => {
    let resident = 100;
    const meter = createResourceMeter({ cpuMicros: () => 0, residentMib: () => resident });
    const usage = meter.begin();
    resident = 300;
    usage.take();
    resident = 50;
    expect(usage.take().peakMib).toBe(300);
    usage.addChild({ cpuSeconds: 2, peakMib: 400 });
    expect(usage.take()).toEqual({ cpuSeconds: 2, peakMib: 450 });
    usage.end();
  });

  it('counts what this process really uses', () => {
    const usage = createResourceMeter().begin();
    const until = performance.now() + 200;
    while (performance.now() < until) Math.sqrt(until);
    const { cpuSeconds, peakMib } = usage.take();
    expect(cpuSeconds).toBeGreaterThan(0.01);
    expect(peakMib).toBeGreaterThan(10);
    usage.end();
  });
});
