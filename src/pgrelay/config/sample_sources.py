"""The sources in config.example.yaml: those of the sample application, a CRM with requests to be called back.

Expressions are compiled into functions whose search_path is pg_catalog, so every table carries its schema.
"""

SAMPLE_SOURCES = """\
sources:
  # Requests of customers to be called back: all eight events of their life.
  - name: callback_requests
    table: public.callback_requests
    tenant: company_id
    resource: callback_request
    prefix: callback
    payload:
      extra:
        branch_name: (select b.name from public.branches b where b.id = new.branch_id)
        service_name: (select s.name from public.services s where s.id = new.service_id)
    events:
      - event: callback.created
        on: insert

      # Also fires for a request that is assigned from the start.
      - event: callback.assigned
        changes: [assigned_to]
        when: new.assigned_to is not null
        payload:
          extra:
            staff_name: (select s.name from public.staff s where s.id = new.assigned_to)
            staff_email: (select s.email from public.staff s where s.id = new.assigned_to)

      - event: callback.contacted
        becomes: {status: contacted}

      - event: callback.completed
        becomes: {status: completed}

      - event: callback.cancelled
        becomes: {status: cancelled}

      - event: callback.expired
        becomes: {status: expired}

      # Nobody writes when a deadline passes: pgrelay looks at the row when the time has come.
      - event: callback.overdue
        at: expires_at
        when: new.status in ('pending', 'assigned')

      - event: callback.escalated
        on: update
        changes: [escalation_level]
        when: new.escalation_level > old.escalation_level
        payload:
          extra:
            escalation: >-
              json_build_object(
                'level', new.escalation_level,
                'previous_level', old.escalation_level)

  # An escalation that is written down in a table of its own is an event of the request it belongs to. An
  # application that raises escalation_level as well sends both; leave out the rule above if that is too much.
  - name: callback_escalations
    table: public.callback_escalations
    key: callback_request_id
    tenant:
      sql: (select c.company_id from public.callback_requests c where c.id = new.callback_request_id)
    resource: callback_request
    prefix: callback
    payload:
      row: (select c from public.callback_requests c where c.id = new.callback_request_id)
      extra:
        branch_name: >-
          (select b.name from public.callback_requests c join public.branches b on b.id = c.branch_id
           where c.id = new.callback_request_id)
        service_name: >-
          (select s.name from public.callback_requests c join public.services s on s.id = c.service_id
           where c.id = new.callback_request_id)
        escalation: >-
          json_build_object(
            'level', new.level,
            'reason', new.reason,
            'escalated_from', new.escalated_from,
            'escalated_from_name', (select s.name from public.staff s where s.id = new.escalated_from),
            'escalated_to', new.escalated_to,
            'escalated_to_name', (select s.name from public.staff s where s.id = new.escalated_to))
    events:
      - event: callback.escalated
        on: insert
"""
