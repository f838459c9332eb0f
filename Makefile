# The commands of the suite; `make help` lists them. Python is set up once, in .venv.

PAPERS := ndmf_net mgre dfw_crossmodal mutual_attention fgsam
PAPER  ?= $(PAPERS)
SCOPE  ?= headline
SEEDS  ?= 0
DEVICE ?= auto

# glibc: keep the large blocks that torch frees and allocates again in every step. Training on CPUs is faster.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 1073741824

ifdef PYTHON
INTERPRETER := $(PYTHON)
READY       :=
else
INTERPRETER := .venv/bin/python
READY       := .venv/.installed
endif

given = $(filter-out 0 no false,$(1))
REPRODUCE = $(INTERPRETER) -m benchmarks reproduce $(1) --scope $(SCOPE) --seeds $(SEEDS) --device $(DEVICE) \
            $(if $(DATA_ROOT),--data-root "$(DATA_ROOT)",--demo) $(if $(ONLY),--only $(ONLY)) $(if $(GPUS),--gpus $(GPUS)) \
            $(if $(JOBS),--jobs $(JOBS)) $(if $(LAUNCHER),--launcher $(LAUNCHER)) \
            $(if $(PARTITION),--partition $(PARTITION)) $(if $(TIME),--time $(TIME)) \
            $(if $(GPUS_PER_JOB),--gpus-per-job $(GPUS_PER_JOB)) $(if $(CPUS_PER_JOB),--cpus-per-job $(CPUS_PER_JOB)) \
            $(if $(call given,$(YES)),--yes) $(if $(call given,$(FORCE)),--force)

.PHONY: help setup reproduce reproduce-ndmf reproduce-mgre reproduce-dfw reproduce-mutual reproduce-fgsam test tables tables-here check-data synthetic speed gpu start
.DEFAULT_GOAL := help

help:
	@echo "make reproduce-ndmf   NDMF-Net: run what its tables need, write runs/tables/ndmf_net.md"
	@echo "make reproduce-mgre   MGRe: the same"
	@echo "make reproduce-dfw    dynamic feature weakening (visible-infrared): the same"
	@echo "make reproduce-mutual deep mutual attention: the same"
	@echo "make reproduce-fgsam  FGSAM: the same"
	@echo "make reproduce        all papers, each method and its baseline: the first table of README.md. Prints the plan and"
	@echo "                      the estimated time first. SCOPE=headline: what the five targets run. PAPER=my_idea: only"
	@echo "                      the paper in that folder, with its headline documents"
	@echo "make test             all tests and the style check"
	@echo "make tables           render benchmarks/tables/ from the committed records"
	@echo "make tables-here      render runs/tables/ from the runs that have finished (PAPER=...: only those); runs nothing"
	@echo "make check-data       list the data sets found, their counts checked against the published ones"
	@echo "make synthetic        generate the synthetic pedestrians (done automatically when needed)"
	@echo "make speed            speed and memory of training, data path, scoring and re-ranking (10 minutes)"
	@echo "make start            learn the demo's starting weights again (an hour or more); interrupted, it resumes"
	@echo "make gpu              on a machine with a GPU: the same results as on a CPU? how fast? an epoch of each paper"
	@echo "                      (20 minutes, resumes; PAPER=...: only those; DEVICE=cuda:1). Writes runs/gpu/"
	@echo "make setup            create .venv and install requirements.txt (done automatically when needed)"
	@echo
	@echo "Variables, as in: make reproduce-ndmf SCOPE=all SEEDS=\"0 1 2\""
	@echo "  DATA_ROOT=DIR    real data sets in DIR, at the papers' settings; without it, synthetic data at demo size"
	@echo "  SCOPE=all        every table and figure; headline (default but for make reproduce): the main table and the"
	@echo "                   ablation; pairs (default of make reproduce): of these the method and its baseline"
	@echo "  SCOPE=decisions  the full model once for each alternative reading of what the paper leaves open"
	@echo "  SCOPE=comparison the papers' models side by side, with one budget: what benchmarks/tables/comparison.md shows"
	@echo "  SEEDS=\"0 1 2\"    one run per seed (default: 0)"
	@echo "  DEVICE=cuda      auto (default), cpu, cuda or cuda:N"
	@echo "  GPUS=N           train each run in N processes, one GPU each (torchrun)"
	@echo "  JOBS=N           N runs at once, each with its own GPU or its share of the cores (default: 1)"
	@echo "  LAUNCHER=slurm   each run is a job of a Slurm cluster; PARTITION=NAME, TIME=MINUTES (240) of a job, which"
	@echo "                   resumes when they are over, GPUS_PER_JOB=N (1), CPUS_PER_JOB=N (4)"
	@echo "  ONLY=\"table5\"    only these tables, figures or variants (table5, fig7, baseline, ...)"
	@echo "  YES=1            run a plan of more than two hours (refused otherwise, but for the headline demo)"
	@echo "  FORCE=1          train finished runs again, from scratch"
	@echo "  PYTHON=python3   use this interpreter and its packages; no .venv is created"
	@echo "  TORCH_INDEX=URL  extra pip index for another build of torch (older drivers, or CPU only):"
	@echo "                   https://download.pytorch.org/whl/cpu"

setup: $(READY)

.venv/.installed: requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: python3 is $$(python3 --version 2>/dev/null || echo missing), but 3.11 or newer is needed." >&2; \
	  echo "       Install it, or name another interpreter: make PYTHON=/path/to/python3.12 (with requirements.txt installed)" >&2; \
	  exit 2; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: python3 has no venv module. Debian, Ubuntu: apt install python3-venv" >&2; exit 2; }
	@test -x .venv/bin/python || python3 -m venv .venv
	@echo "Installing requirements.txt into .venv: about 3 GB, some 3 to 10 minutes" \
	  "(TORCH_INDEX=https://download.pytorch.org/whl/cpu: 0.3 GB, CPU only) ..."
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@touch $@

reproduce-ndmf: $(READY)
	@$(call REPRODUCE,ndmf_net)

reproduce-mgre: $(READY)
	@$(call REPRODUCE,mgre)

reproduce-dfw: $(READY)
	@$(call REPRODUCE,dfw_crossmodal)

reproduce-mutual: $(READY)
	@$(call REPRODUCE,mutual_attention)

reproduce-fgsam: $(READY)
	@$(call REPRODUCE,fgsam)

# Of all papers only the methods and their baselines, unless SCOPE or PAPER says otherwise
reproduce: SCOPE := $(if $(filter-out file,$(origin SCOPE) $(origin PAPER)),$(SCOPE),pairs)
reproduce: $(READY)
	@$(call REPRODUCE,$(PAPER))

test: $(READY)
	$(INTERPRETER) -m ruff check .
	$(INTERPRETER) -m ruff format --check .
	OMP_NUM_THREADS=1 $(INTERPRETER) -m pytest -n auto --dist loadgroup

tables: $(READY)
	@$(INTERPRETER) -m benchmarks tables

tables-here: $(READY)
	@$(INTERPRETER) -m benchmarks tables-here $(if $(filter-out file,$(origin PAPER)),$(PAPER))

check-data: $(READY)
	@$(INTERPRETER) -m common.datasets check $(if $(DATA_ROOT),--data-root "$(DATA_ROOT)")

synthetic: $(READY)
	@$(INTERPRETER) -m common.datasets make

speed: $(READY)
	@$(INTERPRETER) -m benchmarks speed

start: $(READY)
	@$(INTERPRETER) -m benchmarks start --device $(DEVICE) $(if $(call given,$(FORCE)),--force,--resume)

gpu: $(READY)
	@$(INTERPRETER) -m benchmarks gpu $(if $(filter-out file,$(origin PAPER)),$(PAPER)) --device $(DEVICE)
