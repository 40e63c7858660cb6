"""Stands in for NVIDIA's `ncu`: prints the report `ncu_report.csv` that lies beside it, after it has run the program that it is given.

No card made that report. `python tests/stand_in_ncu.py --record` writes it in the format that `ncu --csv --page raw --print-units base`
prints: a row of heads, a row of units, a row for each launch. Its counters are those that the profiler predicts for the ten probes, but for
`8 bytes`, where it says twice as many wavefronts, so that there is something to be found, and for `empty`, where a value is missing."""
import csv, subprocess, sys
from pathlib import Path

REPORT, N, M = Path(__file__).with_name("ncu_report.csv"), 2**14, 256 # for the probes' arrays

def record():
    from matmul_course.app import hardware as h
    rows = [h._compare(launch, [1], None) for launch in h.launches([], N, M)]
    with open(REPORT, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, quoting=csv.QUOTE_ALL, lineterminator="\n")
        out.writerow(["ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size",
                      "Device", "CC", *h.PREDICTED])
        out.writerow([""] * 11 + [next((u for u in ("sector", "request") if f"{u}s_" in c), "") for c in h.PREDICTED])
        for i, r in enumerate(rows):
            counts = dict(r["counts"])
            if r["name"] == "8 bytes": counts[h.WAVEFRONTS[0]] *= 2
            if r["name"] == "empty": counts[h.SECTORS] = None
            name = f"_ZN13matmul_course3app8hardware{len(r['kernel'])}{r['kernel']}B2v1B38c8tJTIcFHzwl2ILi"
            out.writerow([i, 4321, "python3.11", "127.0.0.1", name, 1, 7, r["block"], r["grid"], 0, "8.0",
                          *("n/a" if counts[c] is None else f"{counts[c]:,.0f}" for c in h.PREDICTED)])

if __name__ == "__main__" and sys.argv[1:] == ["--record"]: record()
elif __name__ == "__main__":
    print("==PROF== Connected to process 4321 (python3.11)", flush=True)
    subprocess.run(sys.argv[sys.argv.index(sys.executable):], check=True)
    print("==PROF== Disconnected from process 4321", REPORT.read_text(encoding="utf-8"), sep="\n")
